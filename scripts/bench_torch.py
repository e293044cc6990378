"""Measures PyTorch's importance loops on a model of `bench_models.py`.

Prints JSON: for the authors' loop (the gradient of the mean over a batch) and for
the exact one (the gradient of each sample on its own), milliseconds a sample and
the peak memory of a process that does nothing else.
"""

import argparse
import json
import multiprocessing
import os
import resource
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch

from bench_models import FOLDER, NETWORKS, network


def measure(name: str, samples: int, batch_size: int, threads: int) -> dict[str, float]:
    """One pass over the samples in batches of that size, after a first batch that is not counted."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    model = network(name)
    inputs = np.load(FOLDER / f"{name}.npy")
    inputs = torch.from_numpy(np.resize(inputs, (samples, *inputs.shape[1:])))
    importance = [torch.zeros_like(parameter) for parameter in model.parameters()]

    def step(batch: torch.Tensor) -> None:
        model.zero_grad()
        model(batch).norm(dim=1).square().mean().backward()
        for total, parameter in zip(importance, model.parameters()):
            total += parameter.grad.abs()

    step(inputs[:batch_size])
    start = time.perf_counter()
    for batch in inputs.split(batch_size):
        step(batch)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"ms_per_sample": round(1000 * seconds / samples, 2), "peak_mib": round(peak, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=NETWORKS)
    parser.add_argument("samples", type=int, help="the random inputs are repeated as often as needed")
    parser.add_argument("--batch-size", type=int, default=16, help="of the authors' loop")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    result = {"model": options.model, "samples": options.samples, "torch": torch.__version__}
    result |= {"threads": options.threads, "batch_size": options.batch_size}
    context = multiprocessing.get_context("spawn")
    for loop, batch_size in [("batch", options.batch_size), ("sample", 1)]:
        with ProcessPoolExecutor(1, mp_context=context) as process:
            task = process.submit(measure, options.model, options.samples, batch_size, options.threads)
            result[loop] = task.result()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
