"""Puts the weights of an exported model back into the PyTorch architecture.

Exporters rename, transpose and fold weights and merge equal ones. What they
keep is the order of the layers, so the n-th layer of PyTorch is the n-th node
of its kind. The result is proven by comparing outputs.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.func import functional_call

from architectures import ResNet18, ViT

KINDS = {
    "Conv": nn.Conv2d,
    "BatchNormalization": nn.BatchNorm2d,
    "LayerNormalization": nn.LayerNorm,
    "Gemm": nn.Linear,
    "MatMul": nn.Linear,
}


def tensors(exported: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Every initializer and every constant, by name."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in exported.graph.initializer}
    for node in exported.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


@dataclass
class Loaded:
    """A PyTorch model whose weights are an exported model's, under the names there."""

    module: nn.Module
    weights: dict[str, Tensor]
    """The weights that training fits, named and shaped as in the exported model."""
    uses: dict[str, tuple[str, bool]]
    """For each of PyTorch's parameters: its weight, and whether that is transposed.

    Several parameters may have the same weight: the exporter found them equal.
    """

    def __call__(self, weights: dict[str, Tensor], inputs: Tensor) -> Tensor:
        """The outputs as a function of the weights."""
        parameters = {
            parameter: weights[name].T if transposed else weights[name]
            for parameter, (name, transposed) in self.uses.items()
        }
        return functional_call(self.module, parameters, (inputs,))


def without_batch_norm(module: nn.Module) -> nn.Module:
    """The same network with batch normalisation folded into the convolutions."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.Identity())
            elif isinstance(child, nn.Conv2d) and child.bias is None:
                child.bias = nn.Parameter(torch.zeros(child.out_channels))
    return module


def layers(module: nn.Module, example: Tensor) -> list[tuple[str, nn.Module]]:
    """The layers with weights, in the order in which they run."""
    called = []
    for name, layer in module.named_modules():
        if isinstance(layer, tuple(KINDS.values())):
            layer.register_forward_hook(lambda layer, _in, _out, name=name: called.append((name, layer)))
    with torch.no_grad():
        module(example)
    for _, layer in called:
        layer._forward_hooks.clear()
    return called


def load(path: Path, example: np.ndarray, dtype: torch.dtype = torch.float64) -> Loaded:
    """Loads the model at `path`, a ResNet18 or a ViT by its file name.

    `example` is a batch of inputs on which the outputs are compared.
    """
    exported = onnx.load(path)
    values = tensors(exported)
    same = {node.output[0]: node.input[0] for node in exported.graph.node if node.op_type == "Identity"}

    def resolve(name: str) -> str:
        while name in same:
            name = same[name]
        return name

    sites = []
    for node in exported.graph.node:
        names = [resolve(name) for name in node.input]
        if node.op_type in KINDS and names[1] in values:
            sites.append((node, names[1:]))

    if path.name.startswith("vit"):
        module = ViT()
    elif any(node.op_type == "BatchNormalization" for node, _ in sites):
        module = ResNet18()
    else:
        module = without_batch_norm(ResNet18())
    module.eval()

    uses, state = {}, {}

    def use(parameter: str, name: str, transposed: bool = False) -> None:
        if parameter in dict(module.named_parameters()):
            uses[parameter] = (name, transposed)
        state[parameter] = torch.tensor(values[name].T if transposed else values[name])

    for name, _ in module.named_parameters():
        if "." not in name:
            use(name, resolve(name))
    called = layers(module, torch.from_numpy(example[:1]))
    assert len(called) == len(sites), f"{path}: {len(sites)} layers instead of {len(called)}"
    for (name, layer), (node, names) in zip(called, sites):
        assert isinstance(layer, KINDS[node.op_type]), f"{path}: {node.name} is not {name}"
        attributes = {attribute.name: attribute.i for attribute in node.attribute}
        transposed = isinstance(layer, nn.Linear) and not attributes.get("transB")
        use(f"{name}.weight", names[0], transposed)
        if node.op_type == "MatMul":
            (add,) = (other for other in exported.graph.node if node.output[0] in other.input)
            names[1:] = [resolve(other) for other in add.input if other != node.output[0]]
        for kind, other in zip(["bias", "running_mean", "running_var"], names[1:]):
            use(f"{name}.{kind}", other)

    module.load_state_dict(state, strict=False)
    missing = {name for name, _ in module.named_parameters()} - set(uses)
    assert not missing, f"{path}: no weights for {missing}"
    session = onnxruntime.InferenceSession(path)
    (expected,) = session.run(None, {session.get_inputs()[0].name: example})
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(example)).numpy(), expected, rtol=1e-4, atol=1e-4)
    module.to(dtype).requires_grad_(False)
    weights = {name: torch.tensor(values[name], dtype=dtype) for name, _ in uses.values()}
    return Loaded(module, weights, uses)
