"""Compares the importance and the new weights of `onnx-unlearn` with PyTorch's.

The reference (`reference.py`) runs in float64 on the PyTorch architectures,
with the exported model's own weights, on samples that keep every input of a ReLU
farther from zero than float32 rounds. For each model and each case:

- the profile holds exactly the parameters that PyTorch trains;
- per tensor, the relative error |a - b| / (|b| + 0.001 max|b|) of Omega is at
  most 0.001 at the 99.9th percentile, for the forgotten and for all samples;
- after dampening, all but 1 in 1,000 weights equal PyTorch's (within 0.001 of the
  weight before, which is what that error of Omega allows) and nothing but parameters
  has changed; weights that cannot change any output are left out (a key's bias in
  attention: its gradient is rounding and nothing else);
- from the program's own profiles, PyTorch's dampening makes the same weights as the
  program's, every one within 1e-6.

The exit code is 1 when a comparison fails.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import torch
from safetensors import safe_open
from torch import Tensor

import reference
from loading import Loaded, load, tensors

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "fixtures" / "digits"
NAMES = [
    "resnet18_torchscript",
    "resnet18_torchscript_folded",
    "resnet18_dynamo",
    "resnet18_dynamo_folded",
    "vit_torchscript",
    "vit_dynamo",
]
OMEGA_ERROR = 1e-3
WEIGHT_ERROR = 1e-3
EXACT = 1e-6
DIFFERING = 1e-3
KINK = 1e-6
ALPHA, LAMBDA = 1.5, 1.25


@dataclass(frozen=True)
class Case:
    """The settings of one comparison."""

    objective: str = "sq-l2"
    reduction: str = "sample"
    runtime: str = "onnxruntime"
    batch_size: int = 16
    whole: bool = False
    """Whether to run `forget`, the whole pipeline, in place of its stages."""

    def settings(self) -> list[str]:
        return [
            *["--objective", self.objective, "--reduction", self.reduction],
            *["--batch-size", str(self.batch_size), "--runtime", self.runtime],
        ]


QUICK = [
    Case(),
    Case("fisher", "batch", batch_size=64),
    Case(runtime="tract"),
]
CASES = [
    *QUICK,
    *(Case(objective) for objective in ["l2", "prob", "top"]),
    Case(reduction="batch", batch_size=64),
    Case(reduction="batch", batch_size=48, whole=True),
    *(Case(batch_size=size) for size in [1, 7, 64]),
]


@dataclass
class Samples:
    """Samples on disk and in memory."""

    path: Path
    inputs: np.ndarray
    labels: np.ndarray

    @staticmethod
    def save(path: Path, inputs: np.ndarray, labels: np.ndarray) -> "Samples":
        np.savez_compressed(path, input=inputs, labels=labels)
        return Samples(path, inputs, labels)

    @staticmethod
    def first(count: int, source: Path, path: Path, loaded: Loaded) -> "Samples":
        """The first samples at which the gradient is the same in float32 and float64: off the kinks of ReLU."""
        with np.load(source) as arrays:
            inputs, labels = arrays["input"], arrays["labels"]
        inputs, labels = inputs[: 2 * count], labels[: 2 * count]
        distance = reference.kink_distance(loaded, loaded.weights, torch.from_numpy(inputs).double())
        chosen = (distance > KINK).numpy().nonzero()[0][:count]
        return Samples.save(path, inputs[chosen], labels[chosen])


@dataclass
class Row:
    """The result of one comparison."""

    error: float = 0.0
    tensor: str = ""
    """The tensor with that error."""
    error_everywhere: float = 0.0
    selected: int = 0
    misselected: int = 0
    differing: float = 0.0
    problems: list[str] = field(default_factory=list)


class Comparison:
    """All cases for one model."""

    def __init__(self, binary: Path, model: Path, counts: tuple[int, int], scratch: Path):
        self.binary, self.model, self.scratch = binary, model, scratch
        with np.load(DIGITS / "forget.npz") as arrays:
            self.loaded: Loaded = load(model, arrays["input"][:8])
        forget, retain = (
            Samples.first(count, DIGITS / f"{name}.npz", scratch / f"{name}.npz", self.loaded)
            for name, count in zip(["forget", "retain"], counts)
        )
        self.forget, self.retain = forget, retain
        self.full = Samples.save(
            scratch / "full.npz",
            np.concatenate([retain.inputs, forget.inputs]),
            np.concatenate([retain.labels, forget.labels]),
        )
        self.expected = cache(self._expected)

    def _expected(self, objective: str, reduction: str, batch_size: int) -> list[reference.Importance]:
        """PyTorch's importance for the forgotten and for all samples.

        All samples are the retained ones followed by the forgotten ones, each set
        cut into batches on its own.
        """
        forget, retain = (
            reference.importance(
                self.loaded,
                self.loaded.weights,
                torch.from_numpy(samples.inputs).double(),
                torch.from_numpy(samples.labels),
                *(objective, reduction, batch_size),
            )
            for samples in [self.forget, self.retain]
        )
        return [forget, retain + forget]

    def run(self, *arguments: object) -> None:
        """Runs the program, and raises with its message if it fails."""
        done = subprocess.run([self.binary, *map(str, arguments)], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{arguments[0]} ended with exit code {done.returncode}: {done.stderr.strip()[-500:]}")

    def compare(self, case: Case) -> Row:
        row = Row()
        batch_size = case.batch_size if case.reduction == "batch" else 16
        forget, full = self.expected(case.objective, case.reduction, batch_size)
        new = self.scratch / "new.onnx"
        new.unlink(missing_ok=True)
        limits = ["--alpha", ALPHA, "--lambda", LAMBDA]
        try:
            if case.whole:
                data = ["--forget", self.forget.path, "--retain", self.retain.path]
                self.run("forget", self.model, *data, "-o", new, *limits, "--force", *case.settings())
            else:
                own = [self.compare_importance(case, *pair, row) for pair in [(self.forget, forget), (self.full, full)]]
                profiles = ["--forget-profile", self.profile(self.forget), "--profile", self.profile(self.full)]
                self.run("dampen", self.model, *profiles, "-o", new, *limits)
            changed = self.compare_weights(case, new, forget, full, row)
            if not case.whole and not row.problems:
                for name, expected in self.dampened(*own).items():
                    distance = (changed[name] - expected).abs()
                    if (distance > EXACT * self.loaded.weights[name].abs()).any():
                        row.problems.append(f"{name} is not dampened as the profiles say")
        except (RuntimeError, OSError) as error:
            row.problems.append(str(error))
        return row

    def dampened(self, forget: reference.Importance, full: reference.Importance) -> reference.Weights:
        return reference.dampen(self.loaded.weights, forget, full, ALPHA, LAMBDA)

    def profile(self, samples: Samples) -> Path:
        return samples.path.with_suffix(".safetensors")

    def compare_importance(
        self, case: Case, samples: Samples, expected: reference.Importance, row: Row
    ) -> reference.Importance:
        """The program's importance for these samples."""
        path = self.profile(samples)
        path.unlink(missing_ok=True)
        self.run("importance", self.model, "--data", samples.path, "-o", path, *case.settings())
        with safe_open(path, "pt") as profile:
            sums = {name: profile.get_tensor(name).double() for name in profile.keys()}
            actual = reference.Importance(sums, int(profile.metadata()["count"]))
        if actual.count != expected.count:
            row.problems.append(f"{path.name}: count is {actual.count} instead of {expected.count}")
        for name in sorted(expected.sums.keys() - sums.keys()):
            row.problems.append(f"{path.name}: {name} is missing")
        for name in sorted(sums.keys() - expected.sums.keys()):
            row.problems.append(f"{path.name}: {name} is no parameter")
        omega = actual.mean()
        errors = {
            name: relative_error(omega[name], exact).flatten()
            for name, exact in expected.mean().items()
            if name in omega
        }
        for name, error in errors.items():
            worst = percentile(error)
            row.error, row.tensor = max((row.error, row.tensor), (worst, name))
            if not worst <= OMEGA_ERROR:
                row.problems.append(f"{path.name}: the error of {name} is {worst:.2g}")
        row.error_everywhere = max(row.error_everywhere, percentile(torch.cat(list(errors.values()))))
        return actual

    def compare_weights(
        self, case: Case, new: Path, forget: reference.Importance, full: reference.Importance, row: Row
    ) -> reference.Weights:
        """The new model's parameters."""
        old, expected = self.loaded.weights, self.dampened(forget, full)
        originals, actual = tensors(onnx.load(self.model)), tensors(onnx.load(new))
        if originals.keys() != actual.keys():
            raise RuntimeError("the new model has other tensors")
        for name in sorted(originals.keys() - old.keys()):
            if originals[name].tobytes() != actual[name].tobytes():
                row.problems.append(f"{name} is no parameter, and has changed")
        changed = {name: torch.from_numpy(actual[name].astype(np.float64)) for name in old}
        differing = 0
        for name, weight in old.items():
            distance = (changed[name] - expected[name]).abs()
            differing += (distance > WEIGHT_ERROR * weight.abs()).sum().item()
            selected, actually = expected[name] != weight, changed[name] != weight
            row.selected += selected.sum().item()
            row.misselected += (selected != actually).sum().item()
        row.differing = differing / sum(weight.numel() for weight in old.values())
        if row.differing > DIFFERING:
            row.problems.append(f"{differing:,} weights differ")
        if row.selected == 0:
            row.problems.append("no weight was selected: this compares nothing")
        return changed


def relative_error(actual: Tensor, expected: Tensor) -> Tensor:
    scale = expected.abs() + 1e-3 * expected.abs().max()
    return (actual - expected).abs() / torch.where(scale == 0, 1, scale)


def percentile(errors: Tensor) -> float:
    """The 99.9th one; of few numbers, nearly the largest."""
    return float(np.quantile(errors.numpy(), 0.999))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=ROOT / "target" / "release" / "onnx-unlearn")
    parser.add_argument("--model", action="append", choices=NAMES, help="only this model; may be repeated")
    parser.add_argument("--quick", action="store_true", help="fewer cases on fewer samples")
    options = parser.parse_args()
    if not options.binary.is_file():
        parser.error(f"{options.binary} does not exist: build it first")
    torch.set_flush_denormal(True)
    # The retained samples fill whole batches of 64, so that the file of all samples is cut
    # into the same batches as the two sets; the last batch is a partial one.
    counts = (24, 64) if options.quick else (50, 256)
    header = ["model", "objective", "reduction", "runtime", "batch", "p99.9 of worst tensor", "tensor", "p99.9 of model"]
    header += ["selected", "selected differently", "weights differing", "verdict"]
    print("| " + " | ".join(header) + " |", "|" + " --- |" * len(header), sep="\n")
    failed = []
    for name in options.model or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder)
            comparison = Comparison(options.binary, ROOT / "models" / f"{name}.onnx", counts, scratch)
            for case in QUICK if options.quick else CASES:
                row = comparison.compare(case)
                settings = [case.objective, case.reduction, case.runtime, case.batch_size]
                numbers = [f"{row.error:.1e}", row.tensor, f"{row.error_everywhere:.1e}", f"{row.selected:,}"]
                numbers += [f"{row.misselected:,}", f"{row.differing:.5f}", "FAIL" if row.problems else "ok"]
                print("| " + " | ".join(map(str, [name, *settings, *numbers])) + " |", flush=True)
                failed += [f"{name}, {' '.join(map(str, settings))}: {problem}" for problem in row.problems]
    print(*failed, sep="\n", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
