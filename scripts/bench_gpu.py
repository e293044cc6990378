"""The command beside PyTorch on one NVIDIA GPU, in float32 without TensorFloat-32.

    bench_gpu.py models     writes what needs PyTorch's exporter: the graphs, without weights, to target/gpu
    bench_gpu.py run        makes up the weights, measures, and writes docs/benchmarks-gpu.md

The second needs a GPU, the program, ONNX Runtime with CUDA, PyTorch and numpy, and nothing else: no compiler, no network
and none of the exporter's packages. `--device cpu` tests the script itself, on a network that is small enough.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import bench_plan
import bench_torch
from architectures import ResNet18, ViT
from bench_ours import Command
from bench_plan import ROOT
from bench_table import table

FOLDER = ROOT / "target" / "gpu"
DOCUMENT = ROOT / "docs" / "benchmarks-gpu.md"
BUILD = {
    "resnet18_224": lambda: ResNet18(classes=1000, channels=3, width=64, kernel=7, stride=2),
    "vit_b16": lambda: ViT(classes=1000, channels=3, size=224, patch=16, dim=768, depth=12, heads=12),
    "resnet18_32": lambda: ResNet18(channels=3, width=64, pool=False),
}
BATCH_SIZES = {"resnet18_224": 64, "vit_b16": 32, "resnet18_32": 64}
PLANS = {name: replace(bench_plan.PLANS[name], batch_size=size) for name, size in BATCH_SIZES.items()}
ON_GPU = ("resnet18_224", "vit_b16")
SMALL = 1024
"""Bytes of a tensor that stays in the graph."""
SHARE = 8
"""Of the GPU's memory, one in so many bytes is for the gradients of the samples that vmap has at once."""


def write_graph(name: str) -> None:
    """The exported graph with its weights in a file that is not written, and their shapes."""
    import exporting
    import onnx
    from onnx.external_data_helper import set_external_data

    path = FOLDER / f"{name}.onnx"
    example = {key: torch.from_numpy(value) for key, value in PLANS[name].inputs(2).items()}
    exporting.dynamo(BUILD[name]().eval(), example, path, fold=True)
    exported, shapes, end = onnx.load(path), [], 0
    for tensor in exported.graph.initializer:
        size = len(tensor.raw_data)
        if tensor.data_type != onnx.TensorProto.FLOAT or size < SMALL:
            continue
        set_external_data(tensor, f"{name}.weights", offset=end, length=size)
        tensor.ClearField("raw_data")
        shapes.append(list(tensor.dims))
        end += size
    path.write_bytes(exported.SerializeToString())
    path.with_suffix(".json").write_text(json.dumps(shapes))
    print(path, f"{path.stat().st_size / 1e6:.2f} MB, weights {end / 1e6:.0f} MB")


def write_weights(name: str) -> None:
    """Random weights: those of one axis, scales and variances among them, around one."""
    random = np.random.default_rng(0)
    with open(FOLDER / f"{name}.weights", "wb") as file:
        for shape in json.loads((FOLDER / f"{name}.json").read_text()):
            flat = random.uniform(0.5, 1.5, shape) if len(shape) == 1 else 0.02 * random.standard_normal(shape)
            flat.astype(np.float32).tofile(file)


class Busy:
    """How busy the GPU is, in percent, asked of the driver ten times a second while the block runs."""

    def __enter__(self):
        words = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100"]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        self.found, self.start = [], time.perf_counter()
        self.thread = threading.Thread(target=self.read)
        self.thread.start()
        return self

    def read(self) -> None:
        for line in self.process.stdout:
            self.found.append((time.perf_counter() - self.start, float(line)))

    def __exit__(self, *_):
        self.process.terminate()
        self.thread.join()

    def after(self, seconds: float) -> float:
        """The mean of what was said later than that."""
        later = [percent for at, percent in self.found if at > seconds]
        return sum(later) / max(len(later), 1)


def measure(name: str, device: str, binary: Path, seconds: float) -> dict[str, float]:
    """Milliseconds a sample of PyTorch's ways and of ours, and how busy the GPU was in ours."""
    plan = PLANS[name]
    cuda = device.startswith("cuda")
    room = torch.cuda.get_device_properties(device).total_memory // SHARE if cuda else bench_torch.GRADIENTS
    found = {}
    for way in ("batch", "vmap"):
        result = bench_torch.measure(BUILD[name]().eval(), plan.inputs, way, plan.batch_size, seconds, device, room)
        found[f"torch {way}"] = result["ms"]
        if cuda:
            torch.cuda.empty_cache()
    command = Command(binary, seconds, 4, device, FOLDER, PLANS)
    for reduction in ("sample", "batch"):
        steady = command.steady(name, reduction, plan.batch_size, len(os.sched_getaffinity(0)))
        found[reduction] = steady["ms"]
        if cuda:
            samples = (1 + steady["extra"]) * plan.batch_size
            with Busy() as busy:
                command.importance(name, samples, "--reduction", reduction, "--batch-size", plan.batch_size)
            # From when a run of one batch would be over. To the end the profile is written, in which the GPU is idle.
            found[f"busy {reduction}"] = busy.after(steady["start"])
    return found


def document(found: dict[str, dict[str, float]], device: str, binary: Path) -> str:
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else "the processor"
    shown = subprocess.run([binary, "runtime", "show", "--json"], check=True, capture_output=True, text=True).stdout
    setting = f"{name}, PyTorch {torch.__version__} with CUDA {torch.version.cuda}, ONNX Runtime {json.loads(shown)['version']}"
    head = ["model", "batch", "sample reduction, ms a sample", "batch reduction", "PyTorch, authors' loop", "PyTorch, vmap"]
    head += ["vmap / sample", "authors' loop / batch", "GPU busy, %"]

    def row(name: str, ms: dict[str, float]) -> list[str]:
        cells = [PLANS[name].title, str(PLANS[name].batch_size)]
        cells += [f"{ms[key]:.2f}" for key in ("sample", "batch", "torch batch", "torch vmap")]
        cells += [f"{ms['torch vmap'] / ms['sample']:.2f}", f"{ms['torch batch'] / ms['batch']:.2f}"]
        return cells + [", ".join(f"{ms[key]:.0f}" for key in ("busy sample", "busy batch") if key in ms) or "–"]

    return (
        f"# Benchmarks on a GPU\n\n{setting}; float32 without TensorFloat-32 on both sides, by `make bench-gpu`.\n"
        "As in [benchmarks.md](benchmarks.md), the first batch does not count.\n\n"
        + table(head, [row(name, ms) for name, ms in found.items()])
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["models", "run"])
    parser.add_argument("--model", action="append", choices=PLANS, help="only this model; may be repeated")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each way is repeated")
    parser.add_argument("--binary", type=Path, default=ROOT / "target" / "release" / "onnx-unlearn")
    parser.add_argument("-o", "--out", type=Path, default=DOCUMENT)
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    names = options.model or ON_GPU
    if options.what == "models":
        for name in names:
            write_graph(name)
        return
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("PyTorch finds no GPU")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    found = {}
    for name in names:
        write_weights(name)
        found[name] = measure(name, options.device, options.binary, options.seconds)
        print(name, json.dumps(found[name]), flush=True)
    options.out.write_text(document(found, options.device, options.binary))
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
