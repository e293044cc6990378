"""Measures one of PyTorch's ways to importance on a network of `bench_networks.py`, in a process of its own.

`batch` is the authors' loop: the absolute gradient of the mean over a batch. `one` and `vmap` are exact: the
absolute gradient of each sample, by batches of one, and by torch.func with as many samples at once as memory allows.
`product` is the rate of a large matrix product in place of a network. Prints JSON.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from bench_plan import PLANS, Arrays

MEMORY = 12 << 30
"""Bytes that a way may take."""
GRADIENTS = 2 << 30
"""Bytes of the per-sample gradients that vmap has at once."""
SIDE = 3072
LEAST = 3

Samples = tuple[Tensor, ...]


def objective(outputs: Tensor) -> Tensor:
    return outputs.norm(dim=1).square().mean()


def by_batches(model: nn.Module) -> Callable[[Samples], None]:
    """The step for one batch, which is one sample in the exact loop."""
    importance = [torch.zeros_like(parameter) for parameter in model.parameters()]

    def step(batch: Samples) -> None:
        model.zero_grad()
        objective(model(*batch)).backward()
        for total, parameter in zip(importance, model.parameters()):
            if parameter.grad is not None:
                total += parameter.grad.abs()

    return step


def by_vmap(model: nn.Module) -> Callable[[Samples], None]:
    """The step for several samples at once."""
    parameters = {key: value.detach() for key, value in model.named_parameters()}
    importance = {key: torch.zeros_like(value) for key, value in parameters.items()}

    def value(weights: dict[str, Tensor], *sample: Tensor) -> Tensor:
        return objective(functional_call(model, weights, tuple(each[None] for each in sample)))

    def step(batch: Samples) -> None:
        gradients = vmap(grad(value), (None, *(0 for _ in batch)))(parameters, *batch)
        for key, gradient in gradients.items():
            importance[key] += gradient.abs_().sum(0)

    return step


def chunk(model: nn.Module, batch_size: int, room: int) -> int:
    """Samples that vmap takes at once."""
    bytes_of_one = sum(parameter.nbytes for parameter in model.parameters())
    return max(1, min(batch_size, room // bytes_of_one))


def repeat(step: Callable[[], None], seconds: float, wait: Callable[[], None] = lambda: None) -> list[float]:
    """Seconds of each repetition after a first one that is not counted, until they add up to so many."""
    step()
    wait()
    taken = []
    while len(taken) < LEAST or sum(taken) < seconds:
        start = time.perf_counter()
        step()
        wait()
        taken.append(time.perf_counter() - start)
    return taken


def measure(
    model: nn.Module,
    draw: Callable[[int], Arrays],
    way: str,
    batch_size: int,
    seconds: float,
    device: str = "cpu",
    room: int = GRADIENTS,
) -> dict[str, float]:
    """Milliseconds a sample, and the peak memory of this process; vmap has gradients in so many bytes at once."""
    at_once = {"batch": batch_size, "one": 1, "vmap": chunk(model, batch_size, room)}[way]
    samples = tuple(torch.from_numpy(value).to(device) for value in draw(at_once).values())
    step = (by_vmap if way == "vmap" else by_batches)(model.to(device))
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    taken = repeat(lambda: step(samples), seconds, wait)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"ms": 1000 * statistics.mean(taken) / at_once, "mib": peak, "at_once": at_once}


def product(seconds: float) -> dict[str, float]:
    """The rate of a product of two large square matrices."""
    left, right = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    out = torch.empty(SIDE, SIDE)
    taken = repeat(lambda: torch.mm(left, right, out=out), seconds)
    return {"gflop_per_second": 2 * SIDE**3 / 1e9 / statistics.median(taken)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("way", choices=["batch", "one", "vmap", "product"])
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long to repeat")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    if options.way == "product":
        result = product(options.seconds)
    else:
        from bench_networks import network

        model, draw = network(options.model), PLANS[options.model].inputs
        result = measure(model, draw, options.way, options.batch_size, options.seconds)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
