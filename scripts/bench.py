"""Measures importance of whole models beside PyTorch, and writes `docs/benchmarks.md`.

In each round the command and PyTorch's loops take turns, one process at a time, on each model of `bench_plan.py`.
Every result goes to `docs/benchmarks.json` at once; `bench_table.py` makes the document of what is there.
With `--model` the results of the other models stay.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import bench_table
from bench_ours import Command, Failed
from bench_plan import BATCH_SIZES, DOCUMENT, FORGET, MEMORY_GIB, MEMORY_SAMPLES, ONE_THREAD, PLANS, RESULTS, ROOT

CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Job:
    """One measurement: of the command (`sample`, `batch`, `forget`, `memory`), or of PyTorch (`torch …`)."""

    what: str
    model: str
    batch_size: int
    threads: int
    gib: int = 0


def jobs(name: str, command: Command, first_round: bool) -> list[Job]:
    """What is measured of a network in one round, the things to compare next to each other; what depends on other batch
    sizes, threads and limits in the first one alone."""
    size = PLANS[name].batch_size
    chosen = [Job(what, name, size, CORES) for what in ("torch product", "sample", "torch batch", "batch")]
    chosen += [Job(what, name, size, CORES) for what in ("torch one", "torch vmap")]
    if not first_round:
        return chosen
    others = [(other, CORES) for other in BATCH_SIZES.get(name, ())]
    others += [(size, 1)] if name in ONE_THREAD and CORES > 1 else []
    chosen += [Job(what, name, *other) for other in others for what in ("sample", "torch batch", "batch")]
    if name == FORGET:
        chosen.append(Job("forget", name, 0, CORES))
    if command.takes_memory():
        chosen += [Job("memory", name, 0, CORES, gib) for gib in MEMORY_GIB]
    return chosen


def torch(job: Job, seconds: float) -> dict[str, float]:
    """What `bench_torch.py` says."""
    script = Path(__file__).with_name("bench_torch.py")
    words = [sys.executable, "-W", "ignore", script, job.model, job.what.removeprefix("torch ")]
    words += ["--batch-size", job.batch_size, "--threads", job.threads, "--seconds", seconds]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(done.returncode, (done.stderr.strip().splitlines() or [""])[-1])
    return json.loads(done.stdout)


def measure(job: Job, command: Command) -> dict[str, float | str]:
    """The numbers, or why there are none."""
    try:
        match job.what:
            case "sample" | "batch":
                return command.steady(job.model, job.what, job.batch_size, job.threads)
            case "forget":
                return command.forget(job.threads)
            case "memory":
                return command.promised(job.model, job.gib, MEMORY_SAMPLES, job.threads)
            case _:
                return torch(job, command.seconds)
    except Failed as failure:
        return {"failed": str(failure).replace(f"{ROOT}/", "")}


def setting(binary: Path, rounds: int) -> dict[str, object]:
    """What the numbers depend on."""

    def says(*words: str) -> str:
        return subprocess.run([binary, *words], check=True, capture_output=True, text=True).stdout.strip()

    info = Path("/proc/cpuinfo").read_text()
    processor = next((line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")), "")
    versions = [says("--version"), "ONNX Runtime " + json.loads(says("runtime", "show", "--json"))["version"]]
    versions += [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "torchvision", "transformers")]
    return {
        "command": shlex.join(["python", "scripts/bench.py", *sys.argv[1:]]),
        "processor": (processor or platform.machine()) + (", AVX-512" if " avx512f " in info else ""),
        "cores": CORES,
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "system": platform.system(),
        "versions": [*versions, f"Python {platform.python_version()}"],
        "load": round(os.getloadavg()[0], 2),
        "rounds": rounds,
    }


def save(results: dict) -> None:
    unfinished = RESULTS.with_suffix(".tmp")
    unfinished.write_text(json.dumps(results, indent=1))
    unfinished.replace(RESULTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=ROOT / "target" / "release" / "onnx-unlearn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", action="append", choices=PLANS, help="only this model; may be repeated")
    parser.add_argument("--quick", action="store_true", help="one round, with the fewest batches")
    parser.add_argument("-o", "--out", type=Path, default=DOCUMENT)
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    command = Command(options.binary, *((1.0, 1) if options.quick else (5.0, 4)))
    models = options.model or list(PLANS)

    results = json.loads(RESULTS.read_text()) if options.model and RESULTS.exists() else {"runs": {}, "records": []}
    results["records"] = [record for record in results["records"] if record["model"] not in models]
    run = datetime.now(UTC).isoformat(" ", "minutes")
    results["runs"][run] = setting(options.binary, rounds)
    for number in range(rounds):
        for name in models:
            for job in jobs(name, command, number == 0):
                measured = measure(job, command)
                results["records"].append({"run": run, "round": number, **asdict(job), **measured})
                save(results)
                shown = ", ".join(f"{k} {v if isinstance(v, str) else round(v, 1)}" for k, v in measured.items())
                place = f"batch {job.batch_size}, threads {job.threads}" + (f", {job.gib} GiB" if job.gib else "")
                print(f"round {number + 1} of {rounds}, {name}, {job.what}, {place}: {shown}", flush=True)
    options.out.write_text(bench_table.document(results))
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
