"""Importance and dampening in PyTorch, written from the formulas of the papers.

LFSSD (arXiv 2402.19308) and SSD (arXiv 2308.07707). Everything here is in the
precision of its arguments, apart from sums over samples, which are float64.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Weights = dict[str, Tensor]
"""The weights of a model, by name."""

Model = Callable[[Weights, Tensor], Tensor]
"""From weights and a batch of inputs to a batch of outputs."""

OBJECTIVES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sq-l2": lambda outputs, _: outputs.square().sum(1),
    "l2": lambda outputs, _: outputs.square().sum(1).sqrt(),
    "prob": lambda outputs, _: outputs.softmax(1).square().sum(1),
    "top": lambda outputs, _: outputs.max(1).values,
    "fisher": lambda outputs, labels: F.cross_entropy(outputs, labels, reduction="none"),
}
"""Each gives one number per sample from the outputs and the labels."""


@dataclass
class Importance:
    """Sums over samples (or batches), and how many they are."""

    sums: Weights
    count: int

    def mean(self) -> Weights:
        """Omega."""
        return {name: total / self.count for name, total in self.sums.items()}

    def __add__(self, other: "Importance") -> "Importance":
        sums = {name: total + other.sums[name] for name, total in self.sums.items()}
        return Importance(sums, self.count + other.count)


@sdpa_kernel(SDPBackend.MATH)  # the one that vmap is quick with
def importance(
    model: Model,
    weights: Weights,
    inputs: Tensor,
    labels: Tensor,
    objective: str = "sq-l2",
    reduction: str = "sample",
    batch_size: int = 16,
) -> Importance:
    """The importance of every weight for the given samples.

    Reduction `sample` sums |gradient| over the samples, one by one; reduction
    `batch` sums |gradient of the batch's mean| over consecutive batches. For the
    objective `fisher` the square takes the place of the absolute value.
    """
    value = OBJECTIVES[objective]
    size = torch.square if objective == "fisher" else torch.abs

    def mean_value(weights: Weights, inputs: Tensor, labels: Tensor) -> Tensor:
        return value(model(weights, inputs), labels).mean()

    def value_of_one(weights: Weights, one: Tensor, label: Tensor) -> Tensor:
        return mean_value(weights, one[None], label[None])

    sums = {name: torch.zeros_like(weight, dtype=torch.float64) for name, weight in weights.items()}
    count = 0
    for batch, batch_labels in zip(inputs.split(batch_size), labels.split(batch_size)):
        if reduction == "sample":
            gradients = vmap(grad(value_of_one), (None, 0, 0))(weights, batch, batch_labels)
            count += len(batch)
        else:
            gradient = grad(mean_value)(weights, batch, batch_labels)
            gradients = {name: each[None] for name, each in gradient.items()}
            count += 1
        for name, each in gradients.items():
            sums[name] += size(each.detach()).double().sum(0)
    return Importance(sums, count)


def dampen(weights: Weights, forget: Importance, full: Importance, alpha: float, lambda_: float) -> Weights:
    """The weights after selective synaptic dampening.

    `full` is the importance for the whole training set, the forgotten samples among it.
    """
    forgotten, needed = forget.mean(), full.mean()
    dampened = {}
    for name, weight in weights.items():
        selected = forgotten[name] > alpha * needed[name]
        factor = (lambda_ * needed[name] / forgotten[name]).clamp(max=1)
        dampened[name] = torch.where(selected, weight.double() * factor, weight.double()).to(weight.dtype)
    return dampened


class _Kinks(TorchFunctionMode):
    """Notes how near to zero the inputs of ReLU come, for each sample."""

    distance: Tensor | None = None

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        if function in (F.relu, torch.relu):
            size = arguments[0].abs()
            nearest = torch.where(size == 0, torch.inf, size).flatten(1).amin(1) / size.max()
            self.distance = nearest if self.distance is None else torch.minimum(self.distance, nearest)
        return function(*arguments, **(keywords or {}))


@torch.no_grad()
def kink_distance(model: Model, weights: Weights, inputs: Tensor) -> Tensor:
    """For each sample the smallest input of a ReLU that is not zero, relative to the largest there; infinity
    without ReLU. Within rounding of zero the gradient is that of one side or the other."""
    with _Kinks() as kinks:
        model(weights, inputs)
    return torch.full((len(inputs),), torch.inf) if kinks.distance is None else kinks.distance
