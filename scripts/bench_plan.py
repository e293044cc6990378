"""What is measured: the networks, their inputs, and how much of each is run. It imports without PyTorch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "target" / "bench"
DOCUMENT = ROOT / "docs" / "benchmarks.md"
RESULTS = DOCUMENT.with_suffix(".json")
KERNELS = ROOT / "target" / "criterion" / "kernels"
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Plan:
    """One network: its title, how to draw samples, and the samples in a batch."""

    title: str
    draw: Callable[[np.random.Generator, int], Arrays]
    batch_size: int

    def inputs(self, samples: int) -> Arrays:
        """Random inputs, one array for each input of the model, the same ones every time."""
        return self.draw(np.random.default_rng(0), samples)


def images(size: int) -> Callable[[np.random.Generator, int], Arrays]:
    return lambda random, samples: {"input": random.standard_normal((samples, 3, size, size), np.float32)}


def tokens(random: np.random.Generator, samples: int) -> Arrays:
    """128 word pieces and no padding."""
    return {"input_ids": random.integers(0, 30522, (samples, 128))}


def sequences(random: np.random.Generator, samples: int) -> Arrays:
    """64 steps of 128 features."""
    return {"input": random.standard_normal((samples, 64, 128), np.float32)}


PLANS = {
    "resnet18_32": Plan("ResNet18, 32×32", images(32), 64),
    "resnet18_224": Plan("ResNet18, 224×224", images(224), 16),
    "resnet50_224": Plan("ResNet50, 224×224", images(224), 8),
    "vit_b16": Plan("ViT-B/16, 224×224", images(224), 4),
    "convnext_tiny": Plan("ConvNeXt-tiny, 224×224", images(224), 8),
    "swin_tiny": Plan("Swin-tiny, 224×224", images(224), 8),
    "bert_base": Plan("BERT-base, 128 tokens", tokens, 4),
    "lstm": Plan("LSTM, 2 layers of 512, 64 steps", sequences, 16),
}
"""By the name of the model's file."""

BATCH_SIZES = {"resnet18_32": (4, 16), "vit_b16": (1, 8)}
"""The networks that are measured at other batch sizes too."""

ONE_THREAD = ("resnet18_224", "vit_b16")
"""The networks that are measured with one thread too."""

FORGET = "resnet18_32"
"""The network that a whole `forget` is run on."""
FORGET_SAMPLES, RETAIN_SAMPLES, FORGET_BATCH = 100, 900, 20

MEMORY_GIB = (1, 2, 4)
"""What `--memory` is given, on so many samples."""
MEMORY_SAMPLES = 64
