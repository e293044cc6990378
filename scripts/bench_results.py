"""The results of the measurements, round by round, and what is computed of them."""

import json
import statistics

from bench_plan import FOLDER, PLANS

PASSES = 3
"""Of the arithmetic limit: one forward, one for the gradients of activations, one for those of weights."""

Rounds = dict[int, float]
"""A number for each round."""


class Measured:
    """The results, by what was measured."""

    def __init__(self, records: list[dict]):
        self.records = records

    def models(self) -> list[str]:
        return [name for name in PLANS if any(record["model"] == name for record in self.records)]

    def threads(self) -> list[int]:
        return sorted({record["threads"] for record in self.records})

    def has(self, what: str) -> bool:
        return any(record["what"] == what for record in self.records)

    def rounds(self, model: str, what: str, field: str = "ms", **wanted: int) -> Rounds:
        """By default with the network's own batch size and all threads."""
        if what in ("sample", "batch") or what.startswith("torch"):
            wanted = {"batch_size": PLANS[model].batch_size, "threads": self.threads()[-1]} | wanted
        wanted |= {"model": model, "what": what}
        found = [r for r in self.records if field in r and all(r[key] == value for key, value in wanted.items())]
        return {record["round"]: record[field] for record in found}

    def best_exact(self, model: str) -> Rounds:
        """PyTorch's faster exact way."""
        ways = self.rounds(model, "torch one"), self.rounds(model, "torch vmap")
        return {key: min(way[key] for way in ways if key in way) for key in ways[0] | ways[1]}

    def limit(self, model: str) -> Rounds:
        """Milliseconds that the products of three forward passes take at the rate of a large one."""
        operations = PASSES * costs(model)["forward_gflop"]
        rates = self.rounds(model, "torch product", "gflop_per_second")
        return {key: 1000 * operations / rate for key, rate in rates.items()}


def costs(model: str) -> dict[str, float]:
    """Its `parameters`, and the `forward_gflop` of one sample."""
    return json.loads((FOLDER / f"{model}.json").read_text())


def median(rounds: Rounds, digits: int = 1) -> str:
    return f"{statistics.median(rounds.values()):,.{digits}f}" if rounds else "–"


def ratio(over: Rounds, under: Rounds) -> str:
    """The median of the ratios of each round."""
    return median({key: over[key] / under[key] for key in over.keys() & under.keys()}, 2)
