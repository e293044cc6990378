"""Measures importance: milliseconds a sample and peak memory, beside PyTorch's loops.

Each model of `bench_models.py` is run by the command on one and on three batches; the difference of the two
times is what the two more batches take, without start-up. PyTorch runs the authors' loop (batch
gradients) and the exact one (batch of one) in between. Medians of several rounds, in one table.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench_models import FOLDER, NETWORKS

ROOT = Path(__file__).resolve().parent.parent
BATCH = {"resnet18_32": 16, "resnet18_224": 8, "vit_b16": 4}


def command(binary: Path, model: Path, data: Path, reduction: str, batch_size: int) -> tuple[float, float]:
    """Seconds and peak MiB of one importance pass in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [binary, "importance", model, "--data", data, "-o", f"{folder}/profile.safetensors", "-q"]
        arguments += ["--reduction", reduction, "--batch-size", str(batch_size)]
        code = "import resource, subprocess, sys; p = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL);"
        code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024); sys.exit(p.returncode)"
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True, capture_output=True)
        return time.perf_counter() - start, float(done.stdout)


def ours(binary: Path, name: str, reduction: str, batch_size: int) -> tuple[float, float]:
    """Milliseconds a sample beyond the first batch, and peak MiB."""
    inputs = np.load(FOLDER / f"{name}.npy")
    with tempfile.TemporaryDirectory() as folder:
        seconds, peaks = [], []
        for batches in (1, 3):
            data = Path(folder) / f"{batches}.npy"
            np.save(data, np.resize(inputs, (batches * batch_size, *inputs.shape[1:])))
            second, peak = command(binary, FOLDER / f"{name}.onnx", data, reduction, batch_size)
            seconds.append(second)
            peaks.append(peak)
    return 1000 * (seconds[1] - seconds[0]) / (2 * batch_size), max(peaks)


def torch(name: str, batch_size: int) -> dict:
    script = Path(__file__).with_name("bench_torch.py")
    arguments = [sys.executable, script, name, str(2 * batch_size), "--batch-size", str(batch_size)]
    return json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=ROOT / "target" / "release" / "onnx-unlearn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", action="append", choices=NETWORKS, help="only this model; may be repeated")
    options = parser.parse_args()
    print("| model | batch | sample: ms | MiB | batch: ms | MiB | PyTorch batch: ms | MiB | PyTorch sample: ms | MiB |", end="")
    print(" sample over PyTorch batch | sample over PyTorch sample | batch over PyTorch batch |")
    print("|" + " --- |" * 13)
    for name in options.model or NETWORKS:
        size = BATCH[name]
        rounds = []
        for _ in range(options.rounds):
            sample, batch = (ours(options.binary, name, r, size) for r in ("sample", "batch"))
            other = torch(name, size)
            pairs = [(other[loop]["ms_per_sample"], other[loop]["peak_mib"]) for loop in ("batch", "sample")]
            rounds.append([sample, batch, *pairs])
        columns = [[statistics.median(values) for values in zip(*column)] for column in zip(*rounds)]
        ratios = [(0, 2), (0, 3), (1, 2)]
        shown = [statistics.median(r[a][0] / r[b][0] for r in rounds) for a, b in ratios]
        cells = [f"{ms:.1f} | {mib:.0f}" for ms, mib in columns] + [f"{ratio:.2f}" for ratio in shown]
        print(f"| {name} | {size} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
