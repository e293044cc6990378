"""Measures the command: one process for each run, its seconds and its peak memory."""

import fcntl
import io
import math
import os
import pty
import re
import struct
import subprocess
import tempfile
import termios
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench_plan import FOLDER, FORGET, FORGET_BATCH, FORGET_SAMPLES, PLANS, RETAIN_SAMPLES, Plan

OVER_LIMIT = 5
"""The exit code of a need above `--memory`."""
HERE = ("--runtime", "onnxruntime")
"""How it is to run, on any machine."""
BAR = re.compile(rb"(\d+)/\d+ samples")
"""What the progress bar says of the samples that are done."""


class Failed(Exception):
    """The command gave another exit code than 0: that, and its message."""

    def __init__(self, code: int, message: str):
        super().__init__(f"exit code {code}: {' '.join(message.split())}")
        self.code = code


@dataclass(frozen=True)
class Run:
    """What one process took, and when so many samples were done, as its progress bar said: seconds, samples, MiB."""

    seconds: float
    mib: float
    steps: list[tuple[float, int, float]]

    def milliseconds(self) -> float:
        """A sample's time, from the first step that is known to the last."""
        (start, before, _), (end, after, _) = self.steps[0], self.steps[-1]
        return 1000 * (end - start) / (after - before)


def peak_mib(process: int) -> float | None:
    """The largest resident set that a process had so far; none once it has ended."""
    try:
        found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
    except OSError:
        return None
    return int(found[1]) / 1024 if found else None


def read(messages: io.RawIOBase) -> bytes:
    """The next bytes; none at the end, which a terminal tells by an error."""
    try:
        return messages.read(65536)
    except OSError:
        return b""


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
        """Runs the command before a terminal, whose messages it reads."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 50, 200, 0, 0))
        start = time.perf_counter()
        words = list(map(str, [self.binary, *arguments, *HERE, "--device", self.device]))
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=theirs, env={**os.environ, "TERM": "xterm"})
        os.close(theirs)
        said, steps = b"", []
        with open(ours, "rb", buffering=0) as messages:
            while part := read(messages):
                now = time.perf_counter() - start
                said += part
                done = [int(samples) for samples in BAR.findall(part)]
                if done and done[-1] > (steps[-1][1] if steps else 0):
                    known = steps[-1][2] if steps else 0
                    steps.append((now, done[-1], peak_mib(process.pid) or known))
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise Failed(process.returncode, said.decode(errors="replace").strip())
        return Run(seconds, usage.ru_maxrss / 1024, steps)

    def importance(self, name: str, samples: int, *settings: object) -> Run:
        """One pass over that many samples."""
        with tempfile.TemporaryDirectory() as folder:
            data = f"{folder}/data.npz"
            np.savez(data, **self.plans[name].inputs(samples))
            profile = f"{folder}/profile.safetensors"
            return self.run("importance", self.folder / f"{name}.onnx", "--data", data, "-o", profile, *settings)

    def steady(self, name: str, reduction: str, batch_size: int, threads: int) -> dict[str, float]:
        """Milliseconds a sample after the first batch, and peak memory after it and at the end.

        The first batch, all before it and the writing of the profile do not count. So many batches follow it that they
        take the wanted seconds.
        """
        settings = ["--reduction", reduction, "--batch-size", batch_size, "--threads", threads]
        extra = self.extra
        run = self.importance(name, (1 + extra) * batch_size, *settings)
        taken = run.steps[-1][0] - run.steps[0][0]
        if taken < self.seconds:
            extra = math.ceil(extra * self.seconds / max(taken, self.seconds / 64))
            run = self.importance(name, (1 + extra) * batch_size, *settings)
        start, _, first = run.steps[0]
        return {"ms": run.milliseconds(), "mib": run.mib, "mib_first": first, "start": start, "extra": extra}

    def forget(self, threads: int) -> dict[str, float]:
        """Seconds of a whole `forget`, and of the gradients in it by the rate of `importance` on as many samples."""
        settings = ["--batch-size", FORGET_BATCH, "--threads", threads]
        samples = FORGET_SAMPLES + RETAIN_SAMPLES
        gradients = self.importance(FORGET, samples, *settings).milliseconds() / 1000 * samples
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
