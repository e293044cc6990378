"""Writes the models that the measurements use to `target/bench/`, and what each costs by arithmetic.

Weights are random and seeded. What exists already is kept.
"""

import json

import exporting
from bench_networks import arithmetic, inputs, network
from bench_plan import FOLDER, PLANS


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in PLANS:
        model, costs = FOLDER / f"{name}.onnx", FOLDER / f"{name}.json"
        if not model.exists():
            unfinished = model.with_suffix(".tmp")
            exporting.dynamo(network(name), inputs(name, 2), unfinished, fold=True)
            unfinished.rename(model)
        if not costs.exists():
            costs.write_text(json.dumps(arithmetic(name)))
        print(model, f"{model.stat().st_size / 1e6:.1f} MB", costs.read_text(), flush=True)


if __name__ == "__main__":
    main()
