"""PyTorch's two ways to ONNX, with the settings that this project's models use."""

import logging
import warnings
from pathlib import Path

import onnx
import torch
from onnxscript import optimizer, rewriter
from onnxscript.rewriter.rules.common import remove_optional_bias_from_conv_rule
from torch import Tensor, nn

INPUT, OUTPUT = "input", "logits"


def torchscript(model: nn.Module, example: Tensor, path: Path, fold: bool) -> None:
    """Exports at opset 17; `fold` folds batch normalisation and constants, as by default."""
    kept = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            (example,),
            path,
            dynamo=False,
            opset_version=17,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
            **({} if fold else kept),
        )


def dynamo(model: nn.Module, example: Tensor | dict[str, Tensor], path: Path, fold: bool) -> None:
    """Exports at opset 20; `fold` runs the exporter's whole optimiser, as by default.

    Without it only constants are folded, and the biases of zeros removed that the
    exporter gives to convolutions: that optimiser has no switch of its own for
    batch normalisation. The example is the one input, or the inputs by name.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    inputs = example if isinstance(example, dict) else {INPUT: example}
    batch = {0: torch.export.Dim("batch", min=1)}
    program = torch.onnx.export(
        model.eval(),
        tuple(inputs.values()),
        dynamo=True,
        opset_version=20,
        input_names=list(inputs),
        output_names=[OUTPUT],
        dynamic_shapes=tuple(batch for _ in inputs),
        optimize=fold,
        verbose=False,
    )
    if not fold:
        optimizer.fold_constants(program.model, onnx_shape_inference=False)
        rewriter.rewrite(program.model, [remove_optional_bias_from_conv_rule])
    onnx.save(without_stack_traces(program.model_proto), path)


def without_stack_traces(exported: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the places in source files that each node came from."""
    for node in exported.graph.node:
        for entry in list(node.metadata_props):
            if entry.key == "pkg.torch.onnx.stack_trace":
                node.metadata_props.remove(entry)
    return exported
