"""Writes the models and inputs that the measurements use to `target/bench/`.

Their weights and inputs are random; their architectures are those that
published figures use. What exists already is kept.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

import exporting
from architectures import ResNet18, ViT

FOLDER = Path(__file__).resolve().parent.parent / "target" / "bench"


def resnet18_32() -> nn.Module:
    """ResNet18 as is usual for CIFAR-10: a 3x3 stem without max-pooling."""
    return ResNet18(channels=3, width=64, pool=False)


def resnet18_224() -> nn.Module:
    """torchvision's ResNet18 for ImageNet."""
    return ResNet18(classes=1000, channels=3, width=64, kernel=7, stride=2)


def vit_b16() -> nn.Module:
    """ViT-B/16 for ImageNet."""
    return ViT(classes=1000, channels=3, size=224, patch=16, dim=768, depth=12, heads=12)


NETWORKS = {
    "resnet18_32": (resnet18_32, 64, 32),
    "resnet18_224": (resnet18_224, 16, 224),
    "vit_b16": (vit_b16, 4, 224),
}
"""For each name: how to make the network, the number of inputs, their height and width."""


def network(name: str) -> nn.Module:
    """The network with its random weights, the same ones every time."""
    torch.manual_seed(0)
    return NETWORKS[name][0]().eval()


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, (_, samples, size) in NETWORKS.items():
        inputs, model = FOLDER / f"{name}.npy", FOLDER / f"{name}.onnx"
        if not inputs.exists():
            random = np.random.default_rng(0)
            np.save(inputs, random.standard_normal((samples, 3, size, size), np.float32))
        if not model.exists():
            unfinished = model.with_suffix(".tmp")
            example = torch.from_numpy(np.load(inputs)[:2])
            exporting.dynamo(network(name), example, unfinished, fold=True)
            unfinished.rename(model)
        print(model, f"{model.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
