"""The judgements of test_gpu.sh: parity of two profiles, the proof in a report, made-up data, a failure for want of memory."""

import json
import os
import sys

import numpy as np

LIMIT = 1e-3
TYPES = {"F32": np.float32, "F64": np.float64}
DTYPES = {"float32": np.float32, "float64": np.float64, "int64": np.int64, "int32": np.int32}


def profile(path):
    """Tensors of a safetensors file by name."""
    with open(path, "rb") as file:
        head = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        body = file.read()
    rows = {name: row for name, row in head.items() if name != "__metadata__"}
    read = lambda row: np.frombuffer(body[slice(*row["data_offsets"])], TYPES[row["dtype"]]).astype(np.float64)
    return {name: read(row) for name, row in rows.items()}


def parity(reference, other, title, begin, middle, end):
    """The 99.9th percentile of the relative error, over weights of more than a millionth of their tensor's largest."""
    a, b = profile(reference), profile(other)
    if a.keys() != b.keys():
        sys.exit(f"{title}: the profiles hold other tensors")
    errors = []
    for name, x in a.items():
        kept = x > 1e-6 * x.max(initial=0.0)
        errors.append(np.abs(b[name][kept] - x[kept]) / x[kept])
        if not np.isfinite(b[name]).all():
            sys.exit(f"{title}: {name} is not finite")
    errors = np.concatenate(errors)
    worst, share = errors.max(), np.quantile(errors, 0.999)
    cpu, gpu = float(middle) - float(begin), float(end) - float(middle)
    print(f"{title}: 99.9th percentile {share:.1e}, largest {worst:.1e}; CPU {cpu:.1f} s, device {gpu:.1f} s")
    if share > LIMIT:
        sys.exit(f"{title}: the limit is {LIMIT:.0e}")


def proof(path, device):
    """Every product on the provider of the device, by the runtime's own record."""
    with open(path) as file:
        runtime = json.load(file)["runtime"]
    provider = "CUDAExecutionProvider" if device.startswith("cuda") else "CPUExecutionProvider"
    rows = {row["provider"]: row for row in runtime["assignment"]}
    print(", ".join(f"{name}: {row['nodes']} nodes, {row['products']} products" for name, row in rows.items()))
    elsewhere = sum(row["products"] for name, row in rows.items() if name != provider)
    if runtime["provider"] != provider or elsewhere or not rows.get(provider, {}).get("products"):
        sys.exit(f"{path}: not every product is on {provider}")
    if runtime["allow_tf32"]:
        sys.exit(f"{path}: TensorFloat-32 was allowed")


def data(summary, count, path):
    """Made-up samples for every input of a model."""
    with open(summary) as file:
        inputs = json.load(file)["inputs"]
    random = np.random.default_rng(0)
    arrays = {}
    for port in inputs:
        shape = [int(count)] + [16 if d is None else d for d in port["shape"][1:]]
        dtype = DTYPES[port["dtype"]]
        whole = np.issubdtype(dtype, np.integer)
        values = random.integers(0, 2, shape) if whole else random.standard_normal(shape)
        arrays[port["name"]] = values.astype(dtype)
    np.savez(path, **arrays)


def memory(name, code, messages, made):
    """Too large a batch fits, or fails with one message and leaves no profile."""
    with open(messages) as file:
        text = file.read().strip()
    if code == "0":
        print(f"{name}: a batch of 4,096 fits")
        return
    print(f"{name}: a batch of 4,096 gives code {code}: {text[:200]}")
    if not text.startswith("error: ") or len(text.splitlines()) != 1 or os.path.exists(made):
        sys.exit(f"{name}: no clear error, or a profile was left")


if __name__ == "__main__":
    {"parity": parity, "proof": proof, "data": data, "memory": memory}[sys.argv[1]](*sys.argv[2:])
