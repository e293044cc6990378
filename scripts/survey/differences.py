"""Central differences of the squared norm of the outputs, by ONNX Runtime, for single weights."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

STEPS = (0.1, 1e-2, 0.03, 1.0, 0.3, 1e-3, 1e-4)
"""Relative to the root mean square of the tensor."""
DIRECTIONAL = (1e-3, 1e-4, 1e-2, 1e-5)
ROUNDING = 1e-6
"""Of the objective in float32."""


def open_to(model: onnx.ModelProto, names: list[str]) -> dict[str, np.ndarray]:
    """Makes these initializers and constants inputs as well, and returns their values."""
    graph, values = model.graph, {}
    for node in [node for node in graph.node if node.op_type == "Constant" and node.output[0] in names]:
        tensor = node.attribute[0].t
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
        graph.node.remove(node)
    for tensor in graph.initializer:
        if tensor.name in names:
            values[tensor.name] = numpy_helper.to_array(tensor)
            if tensor.name not in {each.name for each in graph.input}:
                graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    model.ir_version = max(model.ir_version, 4)
    return values


def array(output: np.ndarray | list[dict]) -> np.ndarray:
    """What ZipMap makes, a dictionary for each sample, as rows."""
    return output if isinstance(output, np.ndarray) else np.array([list(row.values()) for row in output], np.float32)


class Differences:
    """The objective of one model as a function of a few of its tensors."""

    def __init__(self, path: Path, data: dict[str, np.ndarray], names: list[str]):
        model = onnx.load(path)
        self.values = open_to(model, names)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        given = {each.name: each.shape for each in self.session.get_inputs() if each.name not in self.values}
        count = len(next(iter(data.values())))
        fixed = next((shape[0] for shape in given.values() if shape and isinstance(shape[0], int)), None)
        self.batches = self.cut({key: data[key] for key in given}, count, fixed)

    @staticmethod
    def cut(data: dict[str, np.ndarray], count: int, fixed: int | None) -> list[dict[str, np.ndarray]]:
        if fixed is None or fixed == count:
            return [data]
        assert fixed == 1, f"a batch of {fixed}"
        return [{key: value[i : i + 1] for key, value in data.items()} for i in range(count)]

    def objective(self, changed: dict[str, np.ndarray]) -> np.ndarray:
        """For each sample."""
        parts = []
        for batch in self.batches:
            outputs = map(array, self.session.run(None, batch | changed))
            outputs = [each.astype(np.float64) for each in outputs if each.dtype in (np.float32, np.float16, np.float64)]
            parts.append(sum(np.square(each).reshape(len(each), -1).sum(1) for each in outputs))
        return np.concatenate(parts)

    def importance(self, name: str, index: int) -> Iterator[tuple[float, float]]:
        """The sum of absolute derivatives by one weight, for each step, and how far rounding moves it."""
        value = self.values[name]
        size = float(np.sqrt(np.mean(np.square(value.astype(np.float64))))) or 1.0
        for step in STEPS:
            ends = []
            for sign in (1, -1):
                moved = value.copy()
                moved.reshape(-1)[index] += sign * step * size
                ends.append((moved.reshape(-1)[index], self.objective({name: moved})))
            (high, above), (low, below) = ends
            width = float(high) - float(low)
            slope = float(np.abs(above - below).sum()) / width
            yield slope, ROUNDING * float(np.abs(above).sum()) / width

    def gradients(self, graph: Path, single: bool, optimised: bool = True) -> list[dict[str, np.ndarray]]:
        """What a gradient graph gives for each tensor; sample by sample, where it is asked for or the batch is fixed."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        if not optimised:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])
        outputs = [f"{name}.grad" for name in self.values]
        given = {each.name: each.shape for each in session.get_inputs()}
        fixed = next((shape[0] for shape in given.values() if shape and isinstance(shape[0], int)), None)
        data = {key: np.concatenate([batch[key] for batch in self.batches]) for key in given}
        batches = self.cut(data, len(next(iter(data.values()))), 1 if single else fixed)
        return [dict(zip(self.values, session.run(outputs, batch))) for batch in batches]

    def directional(self, gradient: Path) -> float:
        """How far the gradient graph is from differences along a random direction in all tensors at once, relative
        to what the directional derivative is of the order of; the best of several steps."""
        runs = self.gradients(gradient, single=False)
        random = np.random.default_rng(1)
        parts, direction = [], {}
        for name, value in self.values.items():
            size = float(np.sqrt(np.mean(np.square(value.astype(np.float64))))) or 1.0
            direction[name] = random.standard_normal(value.shape) * size
            slope = np.mean([run[name].astype(np.float64) for run in runs], 0)
            parts.append((slope * direction[name]).reshape(-1))
        products = np.concatenate(parts)
        scale = max(abs(products.sum()), float(np.sqrt(np.square(products).sum())), 1e-30)
        errors = []
        for step in DIRECTIONAL:
            ends = [{n: (v + sign * step * direction[n]).astype(v.dtype) for n, v in self.values.items()} for sign in (1, -1)]
            above, below = (self.objective(end).mean() for end in ends)
            errors.append(abs((above - below) / (2 * step) - products.sum()) / scale)
        return float(min(errors))
