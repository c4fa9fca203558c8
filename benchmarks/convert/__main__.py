"""The conversion matrix: every model on every target, and deliberately wrong conversions that must be caught.

    make bench-convert            (or: python -m benchmarks.convert [--targets onnxruntime-cpu openvino-cpu])

One process a target, one after the other; each target's cells go to standard error when they are there. The last line
is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.convert.models import MODELS
from benchmarks.convert.mutations import caught
from benchmarks.machine import commit, cpu
from trimtab.targets import TARGETS
from trimtab.worker import ENVIRONMENTS, interpreter_of

LIMIT_S = 3600  # of a target: the first conversion may make an environment for its converter


def column(target: str) -> dict[str, Any]:
    """All models on a target; where its process dies or hangs, every cell says so."""
    entry = TARGETS[target]
    for worker in sorted({entry.convert_worker, entry.load_worker} - {""}):
        interpreter_of(ENVIRONMENTS[worker])  # made once; minutes and gigabytes
    command = [sys.executable, "-m", "benchmarks.convert.cells", target]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return {name: {"ok": False, "why": f"not ended after {LIMIT_S} s"} for name in MODELS}
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        return {name: {"ok": False, "why": f"its process ended with {done.returncode}"} for name in MODELS}
    cells: dict[str, Any] = json.loads(lines[-1])
    return cells


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(prog="make bench-convert")
    cpus = sorted(name for name, entry in TARGETS.items() if entry.device == "CPU")
    parser.add_argument("--targets", nargs="+", choices=sorted(TARGETS), default=cpus)
    given = parser.parse_args()
    targets = {}
    for target in given.targets:
        targets[target] = column(target)
        print(json.dumps({target: targets[target]}), file=sys.stderr, flush=True)
    cells = [cell for column in targets.values() for cell in column.values()]
    with tempfile.TemporaryDirectory() as home:
        mutations = caught(Path(home))
    print(
        json.dumps(
            {
                "commit": commit(),
                "cpu": cpu(),
                "targets": targets,
                "ok": sum(cell["ok"] for cell in cells),
                "cells": len(cells),
                "mutations_caught": sum(bool(said) for said in mutations.values()),
                "mutations": len(mutations),
                "missed": [name for name, said in mutations.items() if not said],
            }
        )
    )


if __name__ == "__main__":
    main()
