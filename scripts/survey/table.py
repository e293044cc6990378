"""Writes docs/survey.md from what `export.py` and `check.py` left."""

import argparse
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from cases import EXACT, RESULTS, ROOT, SOURCES

AGREES = 1e-2
"""Against differences, and for what rounding leaves of small gradients."""
FEWER = 0.95
TIMES = 4.0
"""As many times the forward nodes the backward ones may be."""
NODES = RESULTS / "nodes.tsv"
HEADER = "source | model | exporter | opset | batch | nodes | forward | backward | weights | compared | verdict | worst error | directional | seconds"

TEXT = """# Real exports

`make survey` exports models of many families with random weights, each by the exporters that its users have,
and holds the importance that `onnx-unlearn importance` gives (per sample, three samples) against the framework's own.
Every model in the table is one that ONNX Runtime runs.

- **exact**: for every weight of every tensor that is found in PyTorch, Keras or PaddlePaddle (by value: equal,
  transposed, or with batch normalisation folded in; tables that PyTorch keeps as buffers are found too), the importance equals autograd's in float64. The error is the parity test's, the 99.9th
  percentile of the relative error in the worst tensor, and at most 0.001. Tensors that the exporter computed from
  several parameters are compared as those of the next kind.
  **as PyTorch's float32**: the error is above 0.001, and at most twice that of PyTorch's own float32 against its float64,
  which is told: gradients that nearly cancel. It is counted as exact.
- **within X**: X is the worst error over four weights of each tensor against central differences in ONNX Runtime,
  relative to the tensor's largest; or the error against autograd where it is above 0.001 and the largest error, relative
  to the tensor's largest, is below 0.01: gradients that nearly cancel, or that float32 takes on the other side of a kink.
  **kink, else Y**: that this is so is shown: what the file of `onnx-unlearn grad` gives sample by sample in ONNX Runtime
  without optimisation of the graph, whose convolutions round otherwise, has the error Y, at most a tenth.
- **refused**: named before any work, with the reason. (scikit-learn's linear models hold their weights in attributes of
  one node; there is no tensor to change.)
- **not confirmed**: none of these.
- Batch `n` is dynamic; `1` is what the exporter fixed. The importance is taken twice, in one batch and sample by
  sample, and differs by no more than rounding where a verdict is given. Of `n*` the samples cannot be told apart in a
  batch, so that the command says which node mixes them and takes them one by one.
- "weights" says "x of y" where the command takes fewer weights for trainable than the framework does.
- "compared" counts tensors: all, and in brackets those that are not found in the framework, either compared by
  differences or unsettled: rounding, kinks and curvature leave no two steps of the differences that agree.
- "nodes" are those of the exported file; "forward" and "backward" those of the file that `onnx-unlearn grad` writes,
  which the model's outputs need, and the others, which the gradients of all weights need, with their ratio in brackets.
  Shape arithmetic is gone from the forward ones, recurrent operators and loops are unrolled step by step, and the fused
  operators of optimised models are written out. "directional" holds its gradients,
  summed along a random direction in all weights at once, against central differences in ONNX Runtime: where there is
  no reference, it must agree to 0.01 for a verdict; elsewhere it is told as well, but a step in all weights of a deep
  network crosses kinks.
- "seconds" are those of the command on a busy core, the model's loading included.
"""


@dataclass
class Row:
    source: str
    exported: dict
    checked: dict
    batch: str

    @property
    def error(self) -> float:
        return max(self.checked.get("error", 0.0), self.checked.get("differences", 0.0))

    @property
    def single(self) -> bool:
        """As far from float64 as PyTorch's own float32."""
        return EXACT < self.checked["error"] <= 2 * (self.checked.get("single") or 0.0)

    @property
    def kind(self) -> str:
        checked = self.checked
        if "refused" in checked:
            return "refused"
        errors = [checked.get(key, 0.0) for key in ("scaled", "differences", "batches")]
        if not checked.get("matched"):
            errors.append(checked.get("directional", 0.0))
        failed = any(key in checked for key in ("broken", "differences_failed", "gradient_failed"))
        if failed or checked.get("gradients_missing") or not max(errors) <= AGREES:
            return "not confirmed"
        return "exact" if checked["matched"] and (checked["error"] <= EXACT or self.single) else "within"

    def verdict(self) -> str:
        if self.kind == "refused":
            return f"refused: {reason(self.checked['refused'])}"
        if self.kind == "exact" and self.single:
            return f"as PyTorch's float32, {self.checked['single']:.1e}"
        if self.kind == "within" and 10 * self.checked.get("plain", float("inf")) <= self.error:
            return f"within {self.error:.0e}: kink, else {self.checked['plain']:.1e}"
        return f"within {self.error:.0e}" if self.kind == "within" else self.kind

    def weights(self) -> str:
        """How many; and where batch normalisation folded in cannot explain that they are fewer, of how many."""
        found, trained = self.checked["parameters"], self.checked.get("trained", 0)
        return f"{found:,} of {trained:,}" if found < FEWER * trained else f"{found:,}"

    def compared(self) -> str:
        """Tensors: all, those by differences, and those of which differences say nothing."""
        unsettled = len(self.checked.get("unsettled", []))
        kinds = {"by differences": self.checked.get("differing", 0) - unsettled, "unsettled": unsettled}
        told = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
        return f"{self.checked['tensors']} ({told})" if told else f"{self.checked['tensors']}"

    @property
    def times(self) -> float:
        """How many times the forward nodes of the gradient graph the backward ones are."""
        return self.backward / max(self.checked.get("forward_nodes", 0), 1)

    @property
    def backward(self) -> int:
        return self.checked.get("gradient_nodes", 0) - self.checked.get("forward_nodes", 0)

    def gradient(self) -> tuple[str, str, str]:
        """Its nodes, forward and backward, and its directional derivative's error."""
        checked = self.checked
        if "gradient_nodes" not in checked:
            return "", ("refused" if "gradient_refused" in checked else ""), ""
        directional = f"{checked['directional']:.1e}" if "directional" in checked else ""
        return f"{checked['forward_nodes']:,}", f"{self.backward:,} ({self.times:.1f})", directional

    def line(self) -> str:
        checked, exported = self.checked, self.exported
        forward, backward, directional = self.gradient()
        compared = weights = error = seconds = ""
        if self.kind != "refused" and "error" in checked and "tensors" in checked:
            compared = self.compared()
            weights, error, seconds = self.weights(), f"{self.error:.1e}", f"{checked['seconds']:.1f}"
        cells = [self.source, exported["name"], exported["exporter"], exported["opset"], self.batch]
        cells += [f"{exported['nodes']:,}", forward, backward, weights, compared, self.verdict(), error, directional, seconds]
        return "| " + " | ".join(map(str, cells)) + " |"


def reason(message: str) -> str:
    message = re.sub(r"exit code \d+: |error: |\S*/model\.onnx: |\s+", lambda m: " " if m[0].isspace() else "", message)
    return message.strip().replace("|", "\\|")[:160]


def rows() -> tuple[list[Row], list[str]]:
    found, failed = [], []
    for source in SOURCES:
        for path in sorted((RESULTS / source).glob("*/*/export.json")):
            exported = json.loads(path.read_text())
            if "failed" in exported:
                plain = re.sub(r"\x1b\[[0-9;]*m", "", exported["failed"]).split(" Next steps:")[0]
                failed.append(f"{source}, {exported['name']}, {exported['exporter']}: {plain}")
            elif (path.parent / "check.json").exists():
                checked = json.loads((path.parent / "check.json").read_text())
                batch = "1" if (path.parent / "fixed.txt").exists() else "n*" if checked.get("warnings") else "n"
                found.append(Row(source, exported, checked, batch))
    return found, failed


def summary(found: list[Row]) -> list[str]:
    kinds = ["exact", "within", "refused", "not confirmed"]
    heads = ["source", "families", "exports", *kinds, "backward / forward nodes: median", "most"]
    lines = ["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
    for source in [*SOURCES, None]:
        own = [row for row in found if source in (None, row.source)]
        counts = Counter(row.kind for row in own)
        models = {(row.source, row.exported["name"]) for row in own}
        times = sorted(row.times for row in own if row.times) or [0.0]
        cells = [source or "all", len(models), len(own), *(counts[kind] for kind in kinds)]
        cells += [f"{times[len(times) // 2]:.1f}", f"{times[-1]:.1f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def label(row: Row) -> str:
    return f"{row.source}, {row.exported['name']}, {row.exported['exporter']}"


def of_importance() -> list[str]:
    """What `cost` counted in the graphs that importance is computed with."""
    if not NODES.exists():
        return []
    counted = [line.split("\t") for line in NODES.read_text().splitlines()]
    times = sorted((int(backward) / int(forward), Path(path).relative_to("target/survey")) for backward, forward, path in counted)
    (most, path), (median, _) = times[-1], times[len(times) // 2]
    over = sum(ratio > TIMES for ratio, _ in times)
    return [
        "The graph that importance is computed with ends at what the gradients of weights are contracted from. Of "
        f"{len(times)} such graphs {over} have more than {TIMES:.0f} backward nodes for each forward one: the median is "
        f"{median:.1f}, the most {most:.2f} ({path.parent})."
    ]


def lists(found: list[Row]) -> list[str]:
    """What is to be said of single exports."""
    built, more = [row for row in found if row.times], [row for row in found if row.times > TIMES]
    parts = [
        f"Of {len(built)} gradient graphs {len(more)} have more than {TIMES:.0f} backward nodes for each forward one"
        + (": " + ", ".join(f"{label(row)} ({row.times:.1f})" for row in sorted(more, key=lambda row: row.times)) if more else "")
        + ".",
        *of_importance(),
    ]
    refused = [f"- {label(r)}: {reason(r.checked['gradient_refused'])}" for r in found if "gradient_refused" in r.checked]
    if refused:
        parts.append("No gradient graph, though the importance is given:\n\n" + "\n".join(refused))
    wrong = sorted({(row.source, row.exported["name"], *row.checked["refuted"]) for row in found if row.checked.get("refuted")})
    if wrong:
        heading = "Parameters whose gradient by the framework, in float64, is not that of its own differences; they are compared as those that are not found:"
        parts.append(heading + "\n\n" + "\n".join(f"- {source}, {name}: {', '.join(f'`{each}`' for each in names)}" for source, name, *names in wrong))
    left = [f"- {label(row)}: {', '.join(f'`{name}`' for name in row.checked['no_weight'])}" for row in found if row.checked.get("no_weight")]
    if left:
        parts.append("Parameters of the framework that the command does not take for weights:\n\n" + "\n".join(left))
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "docs" / "survey.md")
    found, failed = rows()
    table = [f"| {HEADER} |", "| --- " * (HEADER.count("|") + 1) + "|", *(row.line() for row in found)]
    parts = [TEXT, "\n".join(summary(found)), *lists(found), "\n".join(table)]
    if failed:
        parts.append("Not exported (the exporter fails, or what it writes is not what the model computes):")
        parts.append("\n".join(f"- {each}" for each in failed))
    parser.parse_args().out.write_text("\n\n".join(part.strip() for part in parts) + "\n")


if __name__ == "__main__":
    main()
