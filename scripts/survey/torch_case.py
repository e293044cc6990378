"""Cases of PyTorch: exported by both exporters, with the importance by autograd as reference."""

import copy
import functools
import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

import cases
from cases import DEAD, SAMPLES, Case, relative

EXPORTERS = ("TorchScript", "dynamo")
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
FOLDABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.ConvTranspose2d)
CLOSE = 1e-3
DRAWS = 20
STEPS = (1e-7, 1e-5, 1e-4)
"""Of differences in float64, relative to the root mean square of the parameter."""
ROUNDING = 1e-5
"""Of their quotient, relative to the objective."""

Inputs = dict[str, Tensor]


def image(size: int = 64, channels: int = 3) -> Inputs:
    return {"input": torch.randn(SAMPLES, channels, size, size)}


class Flat(nn.Module):
    """A model that returns its outputs, however nested, as a tuple of floating-point tensors."""

    def __init__(self, module: nn.Module, names: list[str] | None = None, pick: Callable | None = None):
        super().__init__()
        self.module, self.names, self.pick = module, names, pick

    def forward(self, *inputs: Tensor):
        outputs = self.module(**dict(zip(self.names, inputs))) if self.names else self.module(*inputs)
        outputs = tuple(leaves(self.pick(outputs) if self.pick else outputs))
        return outputs[0] if len(outputs) == 1 else outputs


def leaves(outputs) -> list[Tensor]:
    if isinstance(outputs, Tensor):
        return [outputs] if outputs.is_floating_point() else []
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    if isinstance(outputs, (list, tuple)):
        return [leaf for each in outputs for leaf in leaves(each)]
    return []


def torch_case(
    name: str, build: Callable[[], nn.Module], inputs: Callable[[], Inputs] = image, pick=None, keywords=False
) -> Case:
    """`pick` chooses from the outputs; `keywords` passes inputs by name."""
    prepare()

    def make() -> tuple[nn.Module, Inputs]:
        torch.manual_seed(0)
        model = build().eval()
        example = inputs()
        model = Flat(model, list(example) if keywords else None, pick).eval()
        randomise(model, example)
        return model, far_from_kinks(model, [example, *(inputs() for _ in range(DRAWS))])

    def refer(folder: Path) -> None:
        model, data = make()
        np.savez(folder / "data.npz", **{key: value.numpy() for key, value in data.items()})
        write_reference(model, data, folder / "reference.npz")

    def export(exporter: str, folder: Path) -> None:
        model, data = make()
        with torch.no_grad():
            expected = [output.numpy() for output in leaves(model(*data.values()))]
        write = torchscript if exporter == "TorchScript" else dynamo
        path = folder / "model.onnx"
        try:
            write(model, data, path, dynamic=True)
            check_outputs(path, data, expected)
        except Exception as error:
            (folder / "fixed.txt").write_text(f"{type(error).__name__}: {error}"[:2000])
            one = {key: value[:1] for key, value in data.items()}
            write(model, one, path, dynamic=False)
            check_outputs(path, one, [output[:1] for output in expected])

    return Case(name, EXPORTERS, export, refer)


@functools.cache
def prepare() -> None:
    """Makes what the dynamo exporter keeps between exports, once, before the processes of the cases begin."""
    with tempfile.TemporaryDirectory() as scratch:
        dynamo(Flat(nn.Linear(2, 2)).eval(), {"input": torch.randn(SAMPLES, 2)}, Path(scratch) / "model.onnx", True)


class Kinks(TorchFunctionMode):
    """Notes how near the inputs of functions with kinks come to them, for each sample."""

    AT = {F.relu: [0], torch.relu: [0], torch.relu_: [0], F.leaky_relu: [0], F.prelu: [0], F.relu6: [0, 6]}
    AT |= {F.hardtanh: [0, 6], F.hardswish: [-3, 3], F.hardsigmoid: [-3, 3], Tensor.relu: [0], Tensor.relu_: [0]}

    def __init__(self, samples: int):
        super().__init__()
        self.distance = torch.full((samples,), torch.inf)

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        for kink in self.AT.get(function, []):
            self.note((arguments[0] - kink).abs())
        if function in (torch.max_pool2d, F.max_pool2d) and len(arguments[0]) == len(self.distance):
            pooled = function(*arguments, **(keywords or {}))
            self.note(torch.stack([lead(image, pooled.shape[-2:], *arguments[1:], **(keywords or {})) for image in arguments[0]]))
            return pooled
        return function(*arguments, **(keywords or {}))

    def note(self, size: Tensor) -> None:
        if len(size) == len(self.distance):
            far = torch.where((size == 0) | size.isinf(), torch.inf, size)
            nearest = far.flatten(1).amin(1) / torch.where(size.isinf(), 0, size).max()
            self.distance = torch.minimum(self.distance, nearest)


def pair(value) -> tuple[int, int]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def lead(image: Tensor, shape: torch.Size, kernel, stride=None, padding=0, *_, **settings) -> Tensor:
    """How far the largest element of each window of a pooling without dilation is above the second."""
    size = pair(kernel)
    step, pads = pair(settings.get("stride", stride) or kernel), pair(settings.get("padding", padding))
    # As much behind as windows that begin inside may reach.
    wide = F.pad(image, (pads[1], pads[1] + size[1] + step[1], pads[0], pads[0] + size[0] + step[0]), value=-torch.inf)
    windows = wide.unfold(1, size[0], step[0]).unfold(2, size[1], step[1])[:, : shape[0], : shape[1]]
    if size == (1, 1):
        return torch.full(windows.shape[:3], torch.inf)
    first, second = windows.flatten(3).topk(2).values.unbind(3)
    return first - second


@torch.no_grad()
def far_from_kinks(model: nn.Module, draws: list[Inputs]) -> Inputs:
    """The samples that keep farthest from kinks, at which the gradient of float32 may be that of the other side."""
    with Kinks(SAMPLES) as kinks:
        model(*draws[0].values())
    if kinks.distance.isinf().all():
        return draws[0]
    candidates = {key: torch.cat([draw[key] for draw in draws]) for key in draws[0]}
    with Kinks(len(next(iter(candidates.values())))) as kinks:
        model(*candidates.values())
    chosen = kinks.distance.argsort(descending=True, stable=True)[:SAMPLES]
    return {key: value[chosen] for key, value in candidates.items()}


@torch.no_grad()
def randomise(model: nn.Module, data: Inputs) -> None:
    """Gives every parameter its own values, none zero, and batch normalisation the statistics of the data."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.add_(torch.randn_like(parameter) * (0.02 if parameter.dim() > 1 else 0.1))
    norms = [module for module in model.modules() if isinstance(module, NORMS) and module.running_var is not None]
    if not norms:
        return
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    try:
        model(*data.values())
    except ValueError:
        pass  # one value per channel has no variance
    for norm, momentum in zip(norms, before):
        norm.eval()
        norm.momentum = momentum
        norm.running_mean += 0.1 * torch.randn_like(norm.running_mean)
        norm.running_var *= 0.8 + 0.4 * torch.rand_like(norm.running_var)
        norm.running_var.nan_to_num_(1.0).clamp_(1e-2)


def write_reference(model: nn.Module, data: Inputs, path: Path) -> None:
    """The parameters, the sum over samples of the absolute gradient of the squared norm of all outputs, and the
    factors by which exporters fold batch normalisation into the layer before."""
    exact = copy.deepcopy(model).double()
    doubles = {key: value.double() if value.is_floating_point() else value for key, value in data.items()}
    try:
        with torch.no_grad():
            exact(*(value[:1] for value in doubles.values()))
    except RuntimeError:  # a type is written into the model
        exact, doubles = copy.deepcopy(model), data
    names, parameters = zip(*differentiable(exact))
    sums, sample, gradients = absolute_gradients(exact, doubles)
    single, _, _ = absolute_gradients(model, data)
    largest = max(float(total.max()) for total in sums)
    errors = [relative(a.numpy(), e.numpy()) for a, e in zip(single, sums) if float(e.max()) > DEAD * largest]
    folded = {"single": np.array(max(errors))}
    for layer, bias, scale, shift in foldings(exact, doubles):
        folded[f"scale/{layer}"], folded[f"shift/{layer}/{bias}"] = scale, shift
    count = sum(not name.startswith(cases.BUFFER) for name in names)
    wrong = refuted(exact, sample, parameters[:count], gradients[:count]) if doubles is not data else []
    # Buffers without a gradient are read where none is taken.
    still = [i for i, name in enumerate(names) if name.startswith(cases.BUFFER) and not bool(sums[i].any())]
    kept = {name: index for index, name in enumerate(names) if index not in [*wrong, *still]}
    folded["refuted"] = np.array([names[index] for index in wrong], str)
    values = {name: parameters[index].detach().numpy() for name, index in kept.items()}
    cases.write_reference(path, values, {name: sums[index].numpy() for name, index in kept.items()}, folded)


def differentiable(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters, and tables of numbers that exporters write as constants like them: buffers, but no statistics."""
    found = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point() and buffer.numel() > 1 and not name.endswith(("running_mean", "running_var")):
            found.append((f"{cases.BUFFER}{name}", buffer.requires_grad_()))
    return found


def absolute_gradients(model: nn.Module, data: Inputs) -> tuple[list[Tensor], list[Tensor], tuple[Tensor | None, ...]]:
    """The sums over samples of the absolute gradients, and the last sample with its gradients."""
    parameters = [parameter for _, parameter in differentiable(model)]
    sums = [torch.zeros_like(parameter, dtype=torch.float64) for parameter in parameters]
    for index in range(SAMPLES):
        sample = [value[index : index + 1] for value in data.values()]
        gradients = torch.autograd.grad(objective(model, sample), parameters, allow_unused=True)
        for total, gradient in zip(sums, gradients):
            if gradient is not None:
                total += gradient.abs()
    return [total.detach() for total in sums], sample, gradients


def objective(model: nn.Module, sample: list[Tensor]) -> Tensor:
    return sum(output.square().sum() for output in leaves(model(*sample)))


@torch.no_grad()
def refuted(model: nn.Module, sample: list[Tensor], parameters: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]) -> list[int]:
    """Which gradients by PyTorch in float64 are not those of its own differences: there is no reference for them."""
    random = torch.Generator().manual_seed(1)
    directions = [torch.randn(p.shape, generator=random, dtype=p.dtype) * p.square().mean().sqrt() for p in parameters]
    slopes = [0.0 if g is None else float((g * d).sum()) for g, d in zip(gradients, directions)]

    def differs(chosen: list[int]) -> bool:
        return all(differs_at(step, chosen) for step in STEPS)

    def differs_at(step: float, chosen: list[int]) -> bool:
        ends, before = [], [parameters[i].clone() for i in chosen]
        for sign in (step, -step):
            for i, value in zip(chosen, before):
                parameters[i].copy_(value + sign * directions[i])
            ends.append(float(objective(model, sample)))
        for i, value in zip(chosen, before):
            parameters[i].copy_(value)
        size = max(sum(slopes[i] ** 2 for i in chosen) ** 0.5, ROUNDING * abs(ends[0]))
        return abs((ends[0] - ends[1]) / (2 * step) - sum(slopes[i] for i in chosen)) > CLOSE * size

    every = list(range(len(parameters)))
    return [i for i in every if differs([i])] if differs(every) else []


@torch.no_grad()
def foldings(model: nn.Module, data: Inputs):
    """For each layer with batch normalisation right behind it: the name of its weight, that of the normalisation's
    bias, the factor for each channel (shaped for the weight), and the bias after folding."""
    names = {module: name for name, module in model.named_modules()}
    made, kept, found = {}, [], []

    def note(module, inputs, output):
        kept.append(output)
        made[output.data_ptr(), output.numel()] = module

    def look(norm, inputs):
        layer = made.get((inputs[0].data_ptr(), inputs[0].numel()))
        if layer is not None and norm.weight is not None and norm.running_var is not None:
            found.append((layer, norm))

    hooks = [m.register_forward_hook(note) for m in model.modules() if isinstance(m, FOLDABLE)]
    hooks += [m.register_forward_pre_hook(look) for m in model.modules() if isinstance(m, NORMS)]
    model(*(value[:1] for value in data.values()))
    for hook in hooks:
        hook.remove()
    for layer, norm in found:
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        bias = 0 if layer.bias is None else layer.bias
        shift = (bias - norm.running_mean) * scale + norm.bias
        shape = [1] * layer.weight.dim()
        shape[1 if isinstance(layer, nn.ConvTranspose2d) else 0] = -1
        if layer.weight.shape[shape.index(-1)] == len(scale):
            yield f"{names[layer]}.weight", f"{names[norm]}.bias", scale.reshape(shape).numpy(), shift.numpy()


def torchscript(model: nn.Module, data: Inputs, path: Path, dynamic: bool) -> None:
    """Exports at opset 17."""
    count = len(leaves(model(*data.values())))
    outputs = [f"output{index}" for index in range(count)]
    axes = {name: {0: "batch"} for name in [*data, *outputs]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            tuple(data.values()),
            path,
            dynamo=False,
            opset_version=17,
            input_names=list(data),
            output_names=outputs,
            dynamic_axes=axes if dynamic else None,
        )


def dynamo(model: nn.Module, data: Inputs, path: Path, dynamic: bool) -> None:
    """Exports at opset 20."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    batch = {0: torch.export.Dim("batch", min=1)}
    with sdpa_kernel(SDPBackend.MATH):  # views of what the others give do not survive the exporter's decompositions
        program = torch.onnx.export(
            model,
            tuple(data.values()),
            dynamo=True,
            opset_version=20,
            input_names=list(data),
            dynamic_shapes=(tuple(batch for _ in data),) if dynamic else None,
            verbose=False,
        )
    onnx.save(program.model_proto, path)


def check_outputs(path: Path, data: Inputs, expected: list[np.ndarray]) -> None:
    """Fails where ONNX Runtime does not compute what PyTorch does: the exporter's fault."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    wanted = {each.name for each in session.get_inputs()}
    actual = session.run(None, {key: value.numpy() for key, value in data.items() if key in wanted})
    assert len(actual) == len(expected), f"{len(actual)} outputs instead of {len(expected)}"
    for ours, theirs in zip(actual, expected):
        assert ours.shape == theirs.shape, f"output of shape {ours.shape} instead of {theirs.shape}"
        error = np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30)
        assert error < CLOSE, f"outputs differ by {error:.1g}"
