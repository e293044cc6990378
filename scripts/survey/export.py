"""Exports the models of one source and writes their references, each in a process of its own.

What is there already is not made again. Small models come first, where their size is known from another exporter.
"""

import argparse
import functools
import importlib
import json
import multiprocessing
import re
import resource
import shutil
import signal
import time
import traceback
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from cases import RESULTS, SOURCES, Case


def folder_of(source: str, case: Case, exporter: str) -> Path:
    return RESULTS / source / path_name(case.name) / path_name(exporter)


def path_name(words: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", words)


def size(source: str, case: Case) -> int:
    """The most nodes of what is exported already, or a guess."""
    done = folder_of(source, case, "").glob("*/export.json")
    return max((json.loads(path.read_text()).get("nodes", 0) for path in done), default=500)


def limited(work, seconds: int) -> str:
    """Runs in a child for so many seconds of processor time, and says how it ended when not well."""

    def child_work() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        work()

    child = multiprocessing.get_context("fork").Process(target=child_work)
    child.start()
    child.join()
    if child.exitcode == -signal.SIGKILL:
        return f"over {seconds} s"
    return f"exit code {child.exitcode}" if child.exitcode else ""


def runs(folder: Path) -> None:
    """Fails where ONNX Runtime does. (PyTorch's models ran before.)"""
    if (folder / "data.npz").exists():
        session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
        session.run(None, dict(np.load(folder / "data.npz")))


def attempt(case: Case, exporter: str, folder: Path) -> None:
    """Runs in the child. Leaves `export.json`."""
    start = time.monotonic()
    record = {"name": case.name, "exporter": exporter}
    try:
        case.export(exporter, folder)
        model = onnx.load(folder / "model.onnx", load_external_data=False)
        record["opset"] = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        record["nodes"] = len(model.graph.node)
        runs(folder)
    except Exception as error:
        record["failed"] = f"{type(error).__name__}: {error}".strip().split("\n")[0][:300]
        (folder / "export.log").write_text(traceback.format_exc())
    record["seconds"] = round(time.monotonic() - start, 1)
    (folder / "export.json").write_text(json.dumps(record, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", choices=SOURCES)
    parser.add_argument("--exporter", help="this one only")
    parser.add_argument("--model", help="only models whose name matches this regular expression")
    parser.add_argument("--timeout", type=int, default=120, help="seconds of processor time for one export")
    parser.add_argument("--again", action="store_true", help="also what is exported already")
    parser.add_argument("--references", action="store_true", help="references alone, no exports")
    options = parser.parse_args()
    cases = [case for case in importlib.import_module(SOURCES[options.source]).cases()]
    for case in sorted(cases, key=lambda case: size(options.source, case)):
        if options.model and not re.search(options.model, case.name):
            continue
        above = folder_of(options.source, case, "")
        if case.refer and (options.again or not (above / "reference.npz").exists()):
            above.mkdir(parents=True, exist_ok=True)
            if ended := limited(functools.partial(case.refer, above), options.timeout):
                print(options.source, case.name, "reference:", ended, flush=True)
        for exporter in case.exporters if not options.references else []:
            folder = folder_of(options.source, case, exporter)
            if options.exporter not in (None, exporter) or ((folder / "export.json").exists() and not options.again):
                continue
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            ended = limited(functools.partial(attempt, case, exporter, folder), options.timeout)
            if not (folder / "export.json").exists():
                record = {"name": case.name, "exporter": exporter, "failed": f"the exporter: {ended}"}
                (folder / "export.json").write_text(json.dumps(record))
            record = json.loads((folder / "export.json").read_text())
            print(options.source, case.name, exporter, record.get("failed", "ok"), record.get("seconds"), flush=True)


if __name__ == "__main__":
    main()
