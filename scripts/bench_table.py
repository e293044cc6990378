"""Makes `docs/benchmarks.md` of the results that are in `docs/benchmarks.json`, even of a part."""

import argparse
import json
import math
from collections.abc import Iterable
from pathlib import Path

from bench_plan import BATCH_SIZES, DOCUMENT, FORGET, FORGET_SAMPLES, MEMORY_SAMPLES, ONE_THREAD, PLANS, RESULTS
from bench_plan import KERNELS, RETAIN_SAMPLES
from bench_results import Measured, costs, median, ratio


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), ["---"] * len(list(head)), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def times(measured: Measured) -> str:
    ways = ("sample", "batch", "torch batch", "torch one", "torch vmap")
    head = ["model", "parameters", "batch", "sample reduction", "batch reduction", "PyTorch, authors' loop"]
    head += ["PyTorch, batch of one", "PyTorch, vmap"]

    def row(name: str) -> list[str]:
        cells = [PLANS[name].title, f"{costs(name)['parameters'] / 1e6:.1f} M", str(PLANS[name].batch_size)]
        return cells + [median(measured.rounds(name, way)) for way in ways]

    return table(head, map(row, measured.models()))


def ratios(measured: Measured) -> str:
    head = ["model", "sample / authors' loop", "sample / best exact PyTorch", "batch / authors' loop"]
    head += ["product, GFLOP/s", "limit, ms", "sample / limit", "batch / limit", "authors' loop / limit"]

    def row(name: str) -> list[str]:
        sample, batch = measured.rounds(name, "sample"), measured.rounds(name, "batch")
        authors, limit = measured.rounds(name, "torch batch"), measured.limit(name)
        cells = [ratio(sample, authors), ratio(sample, measured.best_exact(name)), ratio(batch, authors)]
        cells = [PLANS[name].title, *cells]
        cells += [median(measured.rounds(name, "torch product", "gflop_per_second"), 0), median(limit)]
        return cells + [ratio(each, limit) for each in (sample, batch, authors)]

    return table(head, map(row, measured.models()))


def memory(measured: Measured) -> str:
    ways = [("sample", "mib_first"), ("sample", "mib"), ("batch", "mib")]
    ways += [("torch batch", "mib"), ("torch one", "mib"), ("torch vmap", "mib")]
    head = ["model", "batch", "sample reduction, one batch", "the same, all batches", "batch reduction"]
    head += ["PyTorch, authors' loop", "PyTorch, batch of one", "PyTorch, vmap", "samples at once in vmap"]

    def row(name: str) -> list[str]:
        cells = [PLANS[name].title, str(PLANS[name].batch_size)]
        cells += [median(measured.rounds(name, *way), 0) for way in ways]
        return cells + [median(measured.rounds(name, "torch vmap", "at_once"), 0)]

    return table(head, map(row, measured.models()))


def series(measured: Measured, key: str, settings: dict[str, list[int]]) -> str:
    """Time and memory of some models against one setting."""
    head = ["model", key.replace("_", " "), "sample reduction, ms", "MiB", "batch reduction, ms", "MiB"]
    head += ["PyTorch, authors' loop, ms", "MiB", "sample / authors' loop", "batch / authors' loop"]

    def row(name: str, value: int) -> list[str]:
        cells, ms = [PLANS[name].title, str(value)], []
        for way in ("sample", "batch", "torch batch"):
            ms.append(measured.rounds(name, way, **{key: value}))
            cells += [median(ms[-1]), median(measured.rounds(name, way, "mib", **{key: value}), 0)]
        return [*cells, ratio(ms[0], ms[2]), ratio(ms[1], ms[2])]

    return table(head, [row(name, value) for name, values in settings.items() for value in values])


def forgetting(measured: Measured) -> str:
    seconds = measured.rounds(FORGET, "forget", "seconds")
    gradients = measured.rounds(FORGET, "forget", "gradients")
    head = ["model", "forget, s", "gradients in it, s", "share"]
    return table(head, [[PLANS[FORGET].title, median(seconds), median(gradients), ratio(gradients, seconds)]])


def promises(measured: Measured) -> str:
    def row(record: dict) -> list[str]:
        promised = 1024 * record["gib"]
        peak = ["refused", "–"] if record["refused"] else [f"{record['mib']:,.0f}", f"{record['mib'] / promised:.2f}"]
        return [PLANS[record["model"]].title, f"{promised:,}", *peak]

    found = [record for record in measured.records if record["what"] == "memory" and "failed" not in record]
    return table(["model", "--memory, MiB", "peak, MiB", "peak / promised"], map(row, found))


def kernels() -> str:
    """What the kernels do beside a plain product, from the results of `cargo bench`, in the order they were measured in."""
    found = {}
    for path in sorted(KERNELS.glob("*/new/benchmark.json"), key=lambda path: path.stat().st_mtime):
        operations = json.loads(path.read_text())["throughput"]["Elements"]
        nanoseconds = json.loads(path.with_name("estimates.json").read_text())["median"]["point_estimate"]
        found[json.loads(path.read_text())["function_id"]] = (nanoseconds / 1e6, operations / nanoseconds)
    product = next((rate for name, (_, rate) in found.items() if name.startswith("product")), math.nan)
    rows = [[name, f"{ms:.2f}", f"{rate:.1f}", f"{rate / product:.2f}"] for name, (ms, rate) in found.items()]
    return table(["layer", "ms for 4 samples", "GFLOP/s", "of the product's rate"], rows) if rows else ""


def failures(measured: Measured) -> str:
    found = {(record["model"], record["what"], record["failed"]) for record in measured.records if "failed" in record}
    return "".join(f"- {PLANS[model].title}, {what}: {message}\n" for model, what, message in sorted(found))


def settings(results: dict) -> str:
    """Where and when it was measured: once for each run that results are left of."""
    text = ""
    for run in sorted({record["run"] for record in results["records"]}):
        names = {record["model"] for record in results["records"] if record["run"] == run}
        facts = results["runs"][run]
        text += f"- {run.split('+')[0]} UTC, `{facts['command']}`, rounds: {facts['rounds']}. "
        text += "; ".join(PLANS[name].title for name in PLANS if name in names) + ".\n"
        text += f"  {facts['processor']}, {facts['cores']} cores, {facts['memory_gib']} GiB, {facts['system']}, "
        text += f"load {facts['load']} before the start. {', '.join(facts['versions'])}.\n"
    return text


METHOD = """\
Weights and inputs are random and seeded. In each round the command and PyTorch's loops take turns on each model, one
process at a time; the tables hold medians over the rounds, of ratios the median of each round's ratio. Other batch
sizes and threads, `forget` and `--memory` are measured in the first round alone.

- **Ours**: the time from the end of the first batch to that of the last one, as the command's progress bar tells, so that
  starting, reading the model, differentiating it and writing the profile do not count. Reading the data does.
- **PyTorch, authors' loop**: the absolute gradient of `output.norm(dim=1).square().mean()` over a batch, as in the
  authors' code, with the same batch size. **Batch of one** and **vmap** (`torch.func`) are exact, as our sample
  reduction is. A first step does not count, nor does loading. Denormals are flushed in all of them.
- **Limit**: the floating-point operations of three forward passes (one forward, one for the gradients of activations,
  one for those of weights), counted in matrix products and convolutions, at the rate of a large `torch.mm` in float32,
  measured in every round before each model with the same threads.
- **Memory**: the largest resident set of the process, in MiB, its libraries included. Each of PyTorch's ways may take
  12 GiB.
"""


KERNEL_METHOD = """\
The sums over four samples of the absolute gradients of one weight, `cargo bench` (criterion, medians), one thread, beside
a plain product of matrices (`ndarray`). A depthwise weight and one of rank one have few operations for each number read.
"""


def document(results: dict) -> str:
    measured = Measured(results["records"])
    models = measured.models()
    sizes = {name: sorted({*BATCH_SIZES[name], PLANS[name].batch_size}) for name in models if name in BATCH_SIZES}
    threads = {name: measured.threads() for name in models if name in ONE_THREAD}
    introduction = "Importance of whole models beside PyTorch, by `make bench`; the numbers depend on the machine.\n"
    quicker = "Below 1 is faster than what it is compared with; best exact is the faster of batch of one and vmap.\n"
    whole = f"{FORGET_SAMPLES} samples to forget, {RETAIN_SAMPLES} to retain. The gradients' part is the time of\n"
    whole += "`importance` over as many samples, without its start.\n"
    budget = f"{MEMORY_SAMPLES} samples, the batch size left to the command.\n"
    parts = [
        ("# Benchmarks", introduction + "\n" + settings(results)),
        ("## How it is measured", METHOD),
        ("## Milliseconds a sample", times(measured)),
        ("## Ratios", quicker + "\n" + ratios(measured)),
        ("## Peak memory, MiB", memory(measured)),
        ("## Kernels", (layers := kernels()) and KERNEL_METHOD + "\n" + layers),
        ("## Against batch size", sizes and series(measured, "batch_size", sizes)),
        ("## Against threads", threads and series(measured, "threads", threads)),
        ("## A whole `forget`", measured.has("forget") and whole + "\n" + forgetting(measured)),
        ("## Promised by `--memory`", measured.has("memory") and budget + "\n" + promises(measured)),
        ("## Not possible", failures(measured)),
    ]
    return "\n".join(f"{title}\n\n{text}" for title, text in parts if text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=DOCUMENT)
    options = parser.parse_args()
    options.out.write_text(document(json.loads(RESULTS.read_text())))
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
