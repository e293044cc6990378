"""Makes fixtures/classical/: small networks of scikit-learn on its iris data, as skl2onnx writes them, and the
data with one of three species to forget. The seed is fixed; the files are committed."""

import warnings
from pathlib import Path

import numpy as np
import onnx
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

FOLDER = Path(__file__).resolve().parent.parent / "fixtures" / "classical"
FORGOTTEN = 0


def main() -> None:
    warnings.filterwarnings("ignore")
    iris = load_iris()
    x, labels = iris.data.astype(np.float32), iris.target
    species = iris.target_names[labels]
    network = dict(hidden_layer_sizes=(16,), max_iter=2000, random_state=0)
    tensor = MLPClassifier(**network).fit(x, labels)
    models = {
        # Names as labels; a dictionary of probabilities for each sample.
        "pipeline": (make_pipeline(StandardScaler(), MLPClassifier(**network)).fit(x, species), None),
        "tensor": (tensor, {id(tensor): {"zipmap": False}}),
        "columns": (tensor, {id(tensor): {"zipmap": "columns"}}),
        "regressor": (make_pipeline(Normalizer("l2"), MLPRegressor(**network)).fit(x, x[:, 3]), None),
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, (model, options) in models.items():
        onnx.save(to_onnx(model, x[:1], options=options), FOLDER / f"{name}.onnx")
    forgotten = labels == FORGOTTEN
    for name, rows in {"forget": forgotten, "retain": ~forgotten}.items():
        np.savez(FOLDER / f"{name}.npz", X=x[rows], labels=labels[rows].astype(np.int64))


if __name__ == "__main__":
    main()
