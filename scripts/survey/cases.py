"""What is surveyed: one case is one model, made by one or more exporters. Its weights are random and seeded."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "target" / "survey"

SOURCES = {
    "torchvision": "from_torchvision",
    "timm": "from_timm",
    "segmentation-models": "from_segmentation",
    "transformers": "from_transformers",
    "torch.nn": "from_torch",
    "keras": "from_keras",
    "jax": "from_jax",
    "scikit-learn": "from_sklearn",
    "paddle": "from_paddle",
    "onnxruntime": "from_optimiser",
}
"""The module that lists the cases of each source."""

SAMPLES = 3


@dataclass(frozen=True)
class Case:
    name: str
    exporters: tuple[str, ...]
    export: Callable[[str, Path], None]
    """Writes, for this exporter, `model.onnx` into this folder, and `data.npz` unless `refer` does."""
    refer: Callable[[Path], None] | None = None
    """Writes `data.npz` and `reference.npz`, the importance by the framework's own autograd, into this folder."""


EXACT = 1e-3
"""Against autograd: the limit of the parity test."""
BUFFER = "buffer "
"""Begins the names of tables that are no parameters."""
DEAD = 1e-9
"""Relative to the largest gradient of the model: a gradient that is zero but for rounding (a key's bias)."""


def relative(actual: np.ndarray, expected: np.ndarray) -> float:
    """As the parity test: the 99.9th percentile."""
    scale = np.abs(expected) + 1e-3 * np.abs(expected).max()
    return float(np.quantile(np.abs(actual - expected) / np.where(scale == 0, 1, scale), 0.999))


def write_reference(path: Path, values: dict[str, np.ndarray], sums: dict[str, np.ndarray], more: dict[str, np.ndarray] = {}) -> None:
    """Parameters and their importance by name; the file appears whole or not at all."""
    arrays = {f"value/{name}": value.astype(np.float32) for name, value in values.items()}
    arrays |= {f"omega/{name}": total.astype(np.float32) for name, total in sums.items()}
    with open(path.with_suffix(".tmp"), "wb") as file:
        np.savez(file, **arrays, **more)
    path.with_suffix(".tmp").rename(path)
