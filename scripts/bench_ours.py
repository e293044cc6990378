"""Measures the command: one process for each run, its seconds and its peak memory."""

import math
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench_plan import FOLDER, FORGET, FORGET_BATCH, FORGET_SAMPLES, PLANS, RETAIN_SAMPLES, Plan

OVER_LIMIT = 5
"""The exit code of a need above `--memory`."""
HERE = ("--runtime", "onnxruntime", "--quiet")
"""How it is to run, on any machine."""


class Failed(Exception):
    """The command gave another exit code than 0: that, and its message."""

    def __init__(self, code: int, message: str):
        super().__init__(f"exit code {code}: {' '.join(message.split())}")
        self.code = code


@dataclass(frozen=True)
class Run:
    """What one process took."""

    seconds: float
    mib: float


@dataclass(frozen=True)
class Command:
    """The command's program, the least seconds that are timed, the least batches beyond the first one, and on what."""

    binary: Path
    seconds: float
    extra: int
    device: str = "cpu"
    folder: Path = FOLDER
    plans: dict[str, Plan] = field(default_factory=lambda: PLANS)

    def run(self, *arguments: object) -> Run:
        with tempfile.TemporaryFile("w+") as messages:
            start = time.perf_counter()
            words = list(map(str, [self.binary, *arguments, *HERE, "--device", self.device]))
            process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=messages)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode != 0:
                messages.seek(0)
                raise Failed(process.returncode, messages.read().strip())
        return Run(seconds, usage.ru_maxrss / 1024)

    def importance(self, name: str, samples: int, *settings: object) -> Run:
        """One pass over that many samples."""
        with tempfile.TemporaryDirectory() as folder:
            data = f"{folder}/data.npz"
            np.savez(data, **self.plans[name].inputs(samples))
            profile = f"{folder}/profile.safetensors"
            return self.run("importance", self.folder / f"{name}.onnx", "--data", data, "-o", profile, *settings)

    def steady(self, name: str, reduction: str, batch_size: int, threads: int) -> dict[str, float]:
        """Milliseconds a sample beyond the first batch, and peak memory with one batch and with all of them.

        The first batch, and all that is done once, is subtracted by a run of its own. So many batches follow it that
        they take the wanted seconds.
        """
        settings = ["--reduction", reduction, "--batch-size", batch_size, "--threads", threads]
        first = self.importance(name, batch_size, *settings)
        extra = self.extra
        whole = self.importance(name, (1 + extra) * batch_size, *settings)
        taken = whole.seconds - first.seconds
        if taken < self.seconds:
            extra = math.ceil(extra * self.seconds / max(taken, self.seconds / 16))
            whole = self.importance(name, (1 + extra) * batch_size, *settings)
            taken = whole.seconds - first.seconds
        milliseconds = 1000 * taken / (extra * batch_size)
        return {"ms": milliseconds, "mib": whole.mib, "mib_first": first.mib, "start": first.seconds, "extra": extra}

    def forget(self, threads: int) -> dict[str, float]:
        """Seconds of a whole `forget`, and of the gradients in it by the rate of `importance` on as many samples."""
        settings = ["--batch-size", FORGET_BATCH, "--threads", threads]
        samples = FORGET_SAMPLES + RETAIN_SAMPLES
        first = self.importance(FORGET, FORGET_BATCH, *settings)
        everything = self.importance(FORGET, samples, *settings)
        gradients = (everything.seconds - first.seconds) * samples / (samples - FORGET_BATCH)
        with tempfile.TemporaryDirectory() as folder:
            inputs = PLANS[FORGET].inputs(samples)
            np.savez(f"{folder}/forget.npz", **{key: value[:FORGET_SAMPLES] for key, value in inputs.items()})
            np.savez(f"{folder}/retain.npz", **{key: value[FORGET_SAMPLES:] for key, value in inputs.items()})
            data = ["--forget", f"{folder}/forget.npz", "--retain", f"{folder}/retain.npz", "-o", f"{folder}/new.onnx"]
            # What is written does not matter here, so that a guard is no failure.
            whole = self.run("forget", FOLDER / f"{FORGET}.onnx", *data, "--force", *settings)
        return {"seconds": whole.seconds, "gradients": gradients, "mib": whole.mib}

    def promised(self, name: str, gib: float, samples: int, threads: int) -> dict[str, float]:
        """Peak memory under `--memory`; refused where the command says that this is too little."""
        settings = ["--memory", round(gib * 2**30), "--threads", threads]
        try:
            return {"mib": self.importance(name, samples, *settings).mib, "refused": 0}
        except Failed as failure:
            if failure.code != OVER_LIMIT:
                raise
            return {"mib": 0, "refused": 1}

    def takes_memory(self) -> bool:
        """Whether `importance` has the option `--memory`."""
        done = subprocess.run([self.binary, "importance", "--help"], check=True, capture_output=True, text=True)
        return "--memory " in done.stdout
