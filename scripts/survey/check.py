"""Checks the importance of every exported model, and leaves `check.json` beside it.

Parameters are found in PyTorch's reference by value: equal, transposed, or with batch normalisation folded in. Of
those that are not found, and where there is no reference, some weights of each tensor are compared with central
differences. What was checked with the same binary is not checked again.
"""

import argparse
import functools
import hashlib
import itertools
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from safetensors import safe_open

from cases import BUFFER, DEAD, RESULTS, ROOT, relative
from differences import Differences

ROUNDING = 1e-5
ELEMENTS = 4
ENOUGH = 1e-3
"""An error that needs no other step."""
LIMIT = 300
"""Seconds for one run of the command."""
MEASURABLE = 0.1
"""Differences of a tensor whose gradient is less than ten times their rounding say nothing."""
SETTLED = 0.01
"""How near differences of two steps must be, relative to the largest gradient of the tensor, to say something."""


def tensors(path: Path) -> dict[str, np.ndarray]:
    model = onnx.load(path)
    found = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


class Reference:
    """PyTorch's parameters and their importance, found by value."""

    def __init__(self, path: Path):
        arrays = dict(np.load(path))
        pairs = {key[6:]: (value, arrays["omega/" + key[6:]]) for key, value in arrays.items() if key.startswith("value/")}
        self.known = list(pairs.items())
        self.trained = sum(v.size for name, (v, omega) in pairs.items() if omega.any() and not name.startswith(BUFFER))
        self.single = float(arrays["single"]) if "single" in arrays else None
        self.refuted = arrays.get("refuted", np.array([], str)).tolist()
        for key, scale in arrays.items():
            if key.startswith("scale/") and key[6:] in pairs:
                value, omega = pairs[key[6:]]
                self.known.append((f"{key[6:]} (folded)", (value * scale, omega / np.abs(scale))))
            elif key.startswith("shift/"):
                for bias in [name for name in pairs if key.endswith("/" + name)]:
                    self.known.append((f"{bias} (folded)", (scale, pairs[bias][1])))
        self.sums = np.array([(v.size, v.sum(dtype=np.float64), np.square(v, dtype=np.float64).sum()) for _, (v, _) in self.known]).reshape(-1, 3)

    def find(self, value: np.ndarray) -> dict[str, np.ndarray]:
        """The parameters with this value, and their importance in this one's layout."""
        matches = {}
        squares = np.square(value, dtype=np.float64).sum()
        sums = np.abs(self.sums - [value.size, value.sum(dtype=np.float64), squares])
        near = (sums[:, 0] == 0) & (sums[:, 2] <= 1e-4 * squares) & (sums[:, 1] <= 1e-3 * np.sqrt(squares * value.size))
        for index in near.nonzero()[0]:
            name, (known, omega) = self.known[index]
            for moved, importance in layouts(known, omega, value.shape):
                if name not in matches and np.allclose(moved, value, rtol=1e-3, atol=1e-4 * np.abs(value).max()):
                    matches[name] = importance
        return matches


def matched(known: Reference, values: dict[str, np.ndarray], sums: dict[str, np.ndarray]) -> dict[str, tuple[str, np.ndarray]]:
    """The parameter that each tensor is, with its importance. Where several have one value, as many as there are tensors
    with it, each tensor is that with the nearest importance."""
    every = {name: known.find(value) for name, value in values.items() if value.dtype == np.float32 and value.size > 1}
    groups: dict[frozenset, list[str]] = {}
    for name, matches in every.items():
        groups.setdefault(frozenset(matches), []).append(name)
    found = {}
    for origins, names in groups.items():
        left = set(origins)
        if len(origins) != len(names):
            continue
        for name in names:
            gap = lambda origin: 0.0 if name not in sums else float(np.abs(sums[name] - every[name][origin]).max())
            origin = min(sorted(left), key=gap)
            left.remove(origin)
            found[name] = origin, every[name][origin]
    return found


def layouts(value: np.ndarray, omega: np.ndarray, shape: tuple[int, ...]):
    yield value.reshape(shape), omega.reshape(shape)
    if 2 <= value.ndim <= 4:
        for order in itertools.permutations(range(value.ndim)):
            yield value.transpose(order).reshape(shape), omega.transpose(order).reshape(shape)


@functools.lru_cache(1)
def reference(path: Path) -> Reference:
    return Reference(path)


class Refused(Exception):
    pass


def importance(binary: Path, model: Path, data: Path, *settings: str) -> tuple[dict[str, np.ndarray], float, str]:
    """The sums by name, the seconds it took, and warnings."""
    with tempfile.TemporaryDirectory() as scratch:
        profile = Path(scratch) / "profile.safetensors"
        command = [binary, "importance", model, "--data", data, "-o", profile, "--threads", "1", *settings]
        start = time.monotonic()
        try:
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            raise Refused(f"over {LIMIT} s")
        seconds = time.monotonic() - start
        message = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|.*\r", "", done.stderr).strip()
        if done.returncode != 0:
            raise Refused(f"exit code {done.returncode}: {message[-1500:]}")
        with safe_open(profile, "np") as file:
            return {name: file.get_tensor(name).astype(np.float64) for name in file.keys()}, seconds, message


def errors(sums: dict, found: dict) -> dict[str, tuple[float, float]]:
    """For each tensor the error, and the largest relative to the tensor's largest."""
    largest = max((omega.max() for _, omega in found.values() if omega.size), default=0)
    every = {}
    for name, (_, omega) in found.items():
        omega, actual = omega.astype(np.float64), sums[name]
        if omega.max() <= DEAD * largest:
            every[name] = (0.0, 0.0) if actual.max() <= ROUNDING * largest else (np.inf, np.inf)
        else:
            every[name] = relative(actual, omega), float(np.abs(actual - omega).max() / omega.max())
    return every


def by_reference(record: dict, sums: dict, found: dict) -> None:
    for name, (error, scaled) in errors(sums, found).items():
        record["scaled"] = max(record.get("scaled", 0.0), scaled)
        if not error <= record["error"]:
            record["error"], record["tensor"] = error, f"{name} = {found[name][0]}"


def difference(differences: Differences, name: str, index: int, expected: float, largest: float) -> float | None:
    """How far the derivative by one weight is from differences, relative to `largest`; none where they do not settle:
    rounding, kinks and curvature leave no two steps that agree."""
    slopes, largest = [], max(largest, 1e-30)
    for slope, noise in differences.importance(name, index):
        if noise > MEASURABLE * largest:
            continue
        error = max(abs(slope - expected) - noise, 0) / largest
        if error <= ENOUGH:
            return error
        slopes.append((slope, noise, error))
    pairs = itertools.combinations(slopes, 2)
    settled = [min(a[2], b[2]) for a, b in pairs if abs(a[0] - b[0]) <= a[1] + b[1] + SETTLED * largest]
    return min(settled, default=None)


def by_differences(record: dict, folder: Path, data: Path, sums: dict, names: list[str]) -> None:
    differences = Differences(folder / "model.onnx", dict(np.load(data)), names)
    random = np.random.default_rng(0)
    record["differences"], record["differing"], record["unsettled"] = 0.0, len(names), []
    for name in names:
        omega = sums[name].reshape(-1)
        top = np.argsort(omega)[-ELEMENTS // 2 :]
        chosen = {*top.tolist(), *random.integers(0, omega.size, ELEMENTS // 2).tolist()}
        errors = [difference(differences, name, index, omega[index], omega.max()) for index in chosen]
        errors = [error for error in errors if error is not None]
        if not errors:
            record["unsettled"].append(name)
        elif max(errors) >= record["differences"]:
            record["differences"], record["difference_at"] = max(errors), name


def by_gradient(record: dict, binary: Path, folder: Path, data: Path, names: list[str], found: dict) -> None:
    """The gradient graph: its size, the seconds it takes to build, and its directional derivative. Where the importance
    is off, also the error of what the graph gives sample by sample in a runtime that does not optimise it: a unit that
    rounding puts on the other side of a kink is seldom on that side there."""
    with tempfile.TemporaryDirectory() as scratch:
        graph = Path(scratch) / "gradient.onnx"
        start = time.monotonic()
        command = [binary, "grad", folder / "model.onnx", "-o", graph, "--data", data, "--threads", "1"]
        try:
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            record["gradient_failed"] = f"over {LIMIT} s"
            return
        record["building"] = time.monotonic() - start
        if done.returncode != 0:
            record["gradient_refused"] = done.stderr.strip()[-300:]
            return
        built = onnx.load(graph)
        record["gradient_nodes"], record["forward_nodes"] = len(built.graph.node), forward_nodes(built.graph)
        outputs = {each.name for each in built.graph.output}
        record["gradients_missing"] = [name for name in names if f"{name}.grad" not in outputs]
        names = [name for name in names if f"{name}.grad" in outputs]
        differences = Differences(folder / "model.onnx", dict(np.load(data)), names)
        record["directional"] = differences.directional(graph)
        found = {name: match for name, match in found.items() if name in names}
        if record["error"] > max(ENOUGH, 2 * (record.get("single") or 0.0)) and found:
            samples = differences.gradients(graph, single=True, optimised=False)
            plain = {name: sum(np.abs(each[name].astype(np.float64)) for each in samples) for name in found}
            record["plain"] = max(error for error, _ in errors(plain, found).values())


def forward_nodes(graph: onnx.GraphProto) -> int:
    """Nodes that the model's own outputs need."""
    needed = {each.name for each in graph.output if not each.name.endswith(".grad")}
    count = 0
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            count += 1
    return count


def data_of(folder: Path) -> Path | None:
    places = [folder / "data.npz", folder.parent / "data.npz"]
    return next((path for path in places if path.exists()), None)


def check(binary: Path, folder: Path) -> dict:
    record = {"error": 0.0}
    data = data_of(folder)
    try:
        sums, record["seconds"], record["warnings"] = importance(binary, folder / "model.onnx", data)
        single, _, _ = importance(binary, folder / "model.onnx", data, "--batch-size", "1")
    except Refused as error:
        return {"refused": str(error)}
    largest = max((total.max() for total in sums.values()), default=0)
    alive = [name for name in sums if sums[name].max() > ROUNDING * largest]
    record["batches"] = max((relative(sums[name], single[name]) for name in alive), default=0.0)
    values, found = tensors(folder / "model.onnx"), {}
    record["tensors"], record["parameters"] = len(sums), int(sum(total.size for total in sums.values()))
    if (folder.parent / "reference.npz").exists():
        known = reference(folder.parent / "reference.npz")
        every = matched(known, values, sums)
        found = {name: match for name, match in every.items() if name in sums}
        record["trained"], record["refuted"], record["single"] = known.trained, known.refuted, known.single
        record["no_weight"] = [n for n, (origin, _) in every.items() if n not in sums and not origin.startswith(BUFFER)]
    by_reference(record, sums, found)
    record["matched"] = len(found)
    try:
        by_gradient(record, binary, folder, data, list(sums), found)
    except Exception as error:
        record["gradient_failed"] = f"{type(error).__name__}: {error}"[:300]
    rest = [name for name in sums if name not in found]
    if rest:
        try:
            by_differences(record, folder, data, sums, rest)
        except Exception as error:
            record["differences_failed"] = f"{type(error).__name__}: {error}"[:300]
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, default=ROOT / "target" / "release" / "onnx-unlearn")
    parser.add_argument("--only", default="", help="a regular expression for the path below target/survey")
    parser.add_argument("--refused", action="store_true", help="only what was refused or wrong before")
    options = parser.parse_args()
    if not options.binary.is_file():
        parser.error(f"{options.binary} does not exist: build it first")
    version = hashlib.sha256(options.binary.read_bytes()).hexdigest()[:16]
    for path in sorted(RESULTS.glob("*/*/*/export.json")):
        folder, name = path.parent, str(path.parent.relative_to(RESULTS))
        if not re.search(options.only, name) or "failed" in json.loads(path.read_text()) or data_of(folder) is None:
            continue
        old = folder / "check.json"
        if old.exists():
            before = json.loads(old.read_text())
            if before["binary"] == version or (options.refused and "refused" not in before and before["error"] <= 1e-3):
                continue
        try:
            record = check(options.binary, folder)
        except Exception as error:
            record = {"broken": f"{type(error).__name__}: {error}"[:300], "error": 0.0}
        old.write_text(json.dumps(record | {"binary": version}, indent=1))
        line = record.get("refused") or record.get("broken") or (
            f"error {record['error']:.1e} scaled {record.get('scaled', 0):.1e} batches {record['batches']:.1e} "
            f"matched {record['matched']}/{record['tensors']} differences {record.get('differences', 0):.1e} "
            f"directional {record.get('directional', record.get('gradient_failed', record.get('gradient_refused', '')))} "
            f"nodes {record.get('gradient_nodes')} {record.get('difference_at', '')} {record.get('tensor', '')} {record.get('no_weight') or ''}"
        )
        print(f"{name}: {line}", flush=True)
    sys.exit(0)


if __name__ == "__main__":
    main()
