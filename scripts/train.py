"""Trains the models of `models/` and writes them, their data and their README.

The data is scikit-learn's handwritten digits, enlarged to 32x32. Two small
networks learn it, once with all ten digits and once without the digit that
the examples forget: the second is what unlearning is measured against. Seeds
are fixed; other processors and versions give about the same models, not the
same bits.
"""

from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

import exporting
from architectures import ResNet18, ViT

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
DATA = ROOT / "fixtures" / "digits"
FORGOTTEN = 3
SEED = 0
BATCH = 32


@dataclass
class Images:
    """Images `[n, 1, 32, 32]` with values between 0 and 1, and their digits."""

    inputs: Tensor
    labels: Tensor

    def where(self, mask: Tensor) -> "Images":
        return Images(self.inputs[mask], self.labels[mask])

    def split(self) -> tuple["Images", "Images"]:
        """The forgotten digit and the rest."""
        forgotten = self.labels == FORGOTTEN
        return self.where(forgotten), self.where(~forgotten)

    def save(self, path: Path) -> None:
        np.savez_compressed(path, input=self.inputs.numpy(), labels=self.labels.numpy())


def digits() -> tuple[Images, Images]:
    """The training and the test images, in the same proportion of digits.

    The enlarged images are rounded to 32 grey levels, so that they compress well.
    """
    source = load_digits()
    small = torch.tensor(source.images / 16, dtype=torch.float32)[:, None]
    large = F.interpolate(small, scale_factor=4, mode="bilinear")
    images = Images((large * 32).round() / 32, torch.tensor(source.target))
    train, test = train_test_split(
        np.arange(len(small)), test_size=0.25, stratify=source.target, random_state=SEED
    )
    return images.where(torch.tensor(train)), images.where(torch.tensor(test))


def shifted(inputs: Tensor, reach: int = 2) -> Tensor:
    """Every image moved by its own random number of pixels."""
    samples, _, size, _ = inputs.shape
    padded = F.pad(inputs, [reach] * 4)
    start = torch.randint(0, 2 * reach + 1, (2, samples, 1))
    rows, columns = start + torch.arange(size)
    return padded[torch.arange(samples)[:, None, None], 0, rows[:, :, None], columns[:, None, :]][:, None]


def train(architecture: type[nn.Module], images: Images, epochs: int, rate: float) -> nn.Module:
    """A network of that architecture, trained from scratch with cross entropy.

    On one thread, which is quicker for layers this small; denormal numbers are
    taken as zero, for they are slow.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(SEED)
    model = architecture().train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.05)
    steps = -(-len(images.labels) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, epochs=epochs, steps_per_epoch=steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(images.labels)).split(BATCH):
            optimiser.zero_grad()
            F.cross_entropy(model(shifted(images.inputs[batch])), images.labels[batch]).backward()
            optimiser.step()
            schedule.step()
    return model.eval().to(memory_format=torch.contiguous_format)


def accuracy(model: nn.Module, images: Images) -> float:
    with torch.no_grad():
        return (model(images.inputs).argmax(1) == images.labels).float().mean().item()


def check(path: Path, model: nn.Module, images: Images) -> onnx.ModelProto:
    """The exported model, once it is found valid, self-contained and equal to PyTorch's."""
    exported = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(exported, full_check=True)
    assert not any(tensor.external_data for tensor in exported.graph.initializer), path
    assert not any(
        attribute.i for node in exported.graph.node for attribute in node.attribute if attribute.name == "training_mode"
    ), path
    assert not {"Dropout", "RandomNormalLike"} & {node.op_type for node in exported.graph.node}, path
    session = onnxruntime.InferenceSession(path)
    for size in [1, 5]:
        inputs = images.inputs[:size]
        (actual,) = session.run([exporting.OUTPUT], {exporting.INPUT: inputs.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(actual, model(inputs).numpy(), rtol=1e-4, atol=1e-4)
    return exported


def table(header: list[str], rows: list[list]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


README = """\
# Models

Small networks for the tests, the demonstration and the comparison with PyTorch.
`scripts/train.py` trains them, exports them, checks each
against PyTorch in ONNX Runtime (within 1e-4) and writes this file.

## Data

`fixtures/digits/` holds scikit-learn's digits: 8x8 images, enlarged to 1x32x32
(bilinear), values between 0 and 1 in 32 grey levels, {train} for training and {test} held
out, the ten digits in the same proportion in both. Digit {forgotten} is the one to be forgotten:
{files}.
Arrays: `input` (float32, n x 1 x 32 x 32) and `labels` (int64, n).

The digits are a copy of the test set of "Optical Recognition of Handwritten Digits"
(E. Alpaydin, C. Kaynak; UCI Machine Learning Repository, doi 10.24432/C50P49), which the
repository distributes under the Creative Commons Attribution 4.0 International licence
(CC BY 4.0). The images here are changed as said above.

## Networks

ResNet18 has torchvision's layers at a quarter of the width, with a 3x3 stem; the vision
transformer (ViT) has timm's layers with patches of 4x4, 4 layers of 64 channels and
4 heads. "Retrained" means: trained in the same way from scratch, without digit {forgotten}.
Accuracies are those on the held out images.

{networks}

## Files

| ending | meaning |
| --- | --- |
| `_torchscript` | PyTorch's TorchScript exporter, opset 17; ResNet18 with `training=PRESERVE, do_constant_folding=False`, which keeps batch normalisation and names |
| `_dynamo` | PyTorch's dynamo exporter, opset 20; for ResNet18 only constants are folded, so that batch normalisation is kept |
| `_folded` | the same exporter with its default settings: batch normalisation is folded into the convolutions |
| `_retrained` | trained without digit {forgotten}; dynamo exporter, default settings |

A ResNet18 takes 2.8 MB: 0.7 million float32 weights, which do not compress.
The axis of the samples is dynamic in all of them; input `{input}`, output `{output}`.

{exports}
"""


def main() -> None:
    MODELS.mkdir(exist_ok=True)
    DATA.mkdir(parents=True, exist_ok=True)
    training, held_out = digits()
    sets = {}
    for prefix, images in [("", training), ("test_", held_out)]:
        for name, part in zip(["forget", "retain"], images.split()):
            part.save(DATA / f"{prefix}{name}.npz")
            sets[f"{prefix}{name}.npz"] = len(part.labels)

    networks, exports = [], []

    def export(name: str, exporter, model: nn.Module, fold: bool) -> None:
        path = MODELS / f"{name}.onnx"
        exporter(model, held_out.inputs[:2], path, fold)
        exported = check(path, model, held_out)
        operators = Counter(node.op_type for node in exported.graph.node)
        listed = ", ".join(f"{operator} {count}" for operator, count in sorted(operators.items()))
        size = f"{path.stat().st_size / 1e6:.2f} MB"
        exports.append([f"`{path.name}`", exported.opset_import[0].version, size, listed])

    everything, rest = training, training.split()[1]
    jobs = {
        "vit": (ViT, everything, 30, 2e-3),
        "vit_retrained": (ViT, rest, 30, 2e-3),
        "resnet18": (ResNet18, everything, 15, 3e-3),
        "resnet18_retrained": (ResNet18, rest, 15, 3e-3),
    }
    with ProcessPoolExecutor(mp_context=torch.multiprocessing.get_context("spawn")) as pool:
        trained = pool.map(train, *zip(*jobs.values()))
        for (name, (_, _, epochs, _)), model in zip(jobs.items(), trained):
            scores = [accuracy(model, images) for images in [held_out, *held_out.split()]]
            weights = sum(parameter.numel() for parameter in model.parameters())
            networks.append([name, f"{weights:,}", epochs, *(f"{score:.3f}" for score in scores)])
            print(*networks[-1], flush=True)
            if name.endswith("_retrained"):
                export(name, exporting.dynamo, model, fold=True)
                continue
            assert scores[0] >= 0.97, f"{name} has learnt too little"
            for way in [exporting.torchscript, exporting.dynamo]:
                if name == "vit":
                    export(f"{name}_{way.__name__}", way, model, fold=True)
                else:
                    export(f"{name}_{way.__name__}", way, model, fold=False)
                    export(f"{name}_{way.__name__}_folded", way, model, fold=True)

    readme = README.format(
        train=len(training.labels),
        test=len(held_out.labels),
        forgotten=FORGOTTEN,
        files=",\n".join(f"`{name}` ({count})" for name, count in sets.items()),
        networks=table(
            ["network", "weights", "epochs", "accuracy", f"on digit {FORGOTTEN}", "on the rest"], networks
        ),
        exports=table(["file", "opset", "size", "operators"], sorted(exports)),
        input=exporting.INPUT,
        output=exporting.OUTPUT,
    )
    (MODELS / "README.md").write_text(readme)
    print(readme)


if __name__ == "__main__":
    main()
