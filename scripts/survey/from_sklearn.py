"""scikit-learn: neural networks and linear models by skl2onnx."""

from pathlib import Path

import numpy as np

from cases import SAMPLES, Case


def case(name: str, build, classes: int = 0, **options) -> Case:
    """`classes` 0 is a regression."""

    def export(_: str, folder: Path) -> None:
        from skl2onnx import to_onnx

        random = np.random.default_rng(0)
        inputs = random.standard_normal((80, 6)).astype(np.float32)
        labels = random.integers(0, classes, 80) if classes else inputs @ random.standard_normal(6)
        model = build()
        model.fit(inputs, labels)
        settings = {id(model): options} if options else None
        exported = to_onnx(model, inputs[:1], options=settings)
        (folder / "model.onnx").write_bytes(exported.SerializeToString())
        np.savez(folder / "data.npz", X=inputs[:SAMPLES])

    return Case(name, ("skl2onnx",), export)


def cases() -> list[Case]:
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    settings = {"hidden_layer_sizes": (8, 5), "max_iter": 20, "random_state": 0}
    chosen = [
        case(f"MLPClassifier, {activation}", lambda a=activation: MLPClassifier(activation=a, **settings), 3, zipmap=False)
        for activation in ["relu", "tanh", "logistic", "identity"]
    ]
    return [
        *chosen,
        case("MLPClassifier, two classes", lambda: MLPClassifier(**settings), 2, zipmap=False),
        case("MLPClassifier, ZipMap", lambda: MLPClassifier(**settings), 3),
        case("StandardScaler, MLPClassifier", lambda: make_pipeline(StandardScaler(), MLPClassifier(**settings)), 3),
        case("MLPRegressor", lambda: MLPRegressor(**settings)),
        case("MLPRegressor, tanh", lambda: MLPRegressor(activation="tanh", **settings)),
        case("LogisticRegression", LogisticRegression, 3, zipmap=False),
        case("LinearRegression", LinearRegression),
    ]
