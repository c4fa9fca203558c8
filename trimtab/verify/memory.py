"""What a build costs to open: how long it takes, and what a process grows by until it answers the largest batch.

One process imports the runtimes and nothing else; for each build it forks a child, which opens the build and predicts.
The children share what was imported, so the difference between their peak and where they began is the build's own:
weights, the runtime's workspace, activations. Linux: `VmHWM` of /proc, its high-water mark reset before (man 5 proc).
The time counts to the first answer, since some runtimes compile when they load and some when they are first asked; the
runtime itself is imported before, and the files are in the page cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from trimtab.errors import StateError
from trimtab.verify.predictor import Array

CALLS = 3


@dataclass(frozen=True)
class Footprint:
    """Peak memory in MiB, and seconds from nothing opened to the first answer, once in a fresh process."""

    peak_mb: float
    load_s: float


def footprints(
    builds: Mapping[str, tuple[str, Path]], inputs: Mapping[str, Array], batch: int, threads: int
) -> dict[str, Footprint]:
    """Name → Footprint.

    Args:
        builds: name → (target, folder).
        inputs: name → array (n, ...); the first `batch` rows are answered, repeated if there are fewer.

    Raises:
        StateError: the measuring process failed, with the end of what it said; or this is not Linux.
    """
    if not Path("/proc/self/clear_refs").exists():
        raise StateError("peak memory is read from /proc, which is not there", where=sys.platform, fix="run on Linux")
    with tempfile.TemporaryDirectory(prefix="trimtab-memory-") as folder:
        rows = Path(folder) / "rows.safetensors"
        cut = {name: np.resize(values[:batch], (batch, *values.shape[1:])) for name, values in inputs.items()}
        save_file(cut, rows)
        job = {name: [target, str(path)] for name, (target, path) in builds.items()}
        done = subprocess.run(
            [sys.executable, "-m", "trimtab.verify.memory", str(rows), str(threads)],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise StateError(
            f"peak memory could not be measured: {done.stderr.strip()[-500:]}", where="trimtab.verify.memory"
        )
    return {name: Footprint(*figures) for name, figures in json.loads(done.stdout).items()}


def _main(rows: str, threads: str) -> None:
    from trimtab.targets import TARGETS

    job = json.load(sys.stdin)
    inputs = load_file(rows)
    for target in dict.fromkeys(target for target, _ in job.values()):
        import_module(f"trimtab.runtime.{TARGETS[target].runtime}")
    found = {name: _in_a_child(target, Path(path), inputs, int(threads)) for name, (target, path) in job.items()}
    print(json.dumps(found))


def _in_a_child(target: str, folder: Path, inputs: Mapping[str, Array], threads: int) -> list[float]:
    """Peak in MiB, seconds to the first answer."""
    from trimtab import runtime

    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            before = _status("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")
            start = time.perf_counter()
            predictor = runtime.load(target, folder, threads)
            predictor.predict(inputs)
            seconds = time.perf_counter() - start
            for _ in range(CALLS - 1):
                predictor.predict(inputs)
            os.write(writing, json.dumps([max((_status("VmHWM") - before) / 1024, 0.0), seconds]).encode())
            os._exit(0)
        except BaseException as error:
            os.write(2, f"{target} {folder}: {type(error).__name__}: {error}\n".encode())
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as stream:
        answer = stream.read()
    if os.waitpid(child, 0)[1]:
        raise SystemExit(1)
    figures: list[float] = json.loads(answer)
    return figures


def _status(key: str) -> int:
    """A line of /proc/self/status, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    _main(*sys.argv[1:3])
