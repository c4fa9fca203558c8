"""What `registry-watch` costs while nobody touches MLflow: `python -m benchmarks.registry.idle`.

CPU seconds are counted, not wall seconds, so a busy machine changes little. The rounds follow one another without the
pause of two seconds; an hour has 1,800 of them. The last line is one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.registry.servers import QUIET, mlflow_server
from benchmarks.registry.world import World
from deployments.hands.__main__ import POLL_S
from deployments.hands.watch import Watch
from trimtab.settings import Settings

NAMES, VERSIONS, ROUNDS = 1, 5, 300


def main() -> None:
    """Names with some versions, then rounds."""
    os.environ.update(QUIET)
    with tempfile.TemporaryDirectory() as folder, mlflow_server(Path(folder)) as address:
        for number in range(NAMES):
            world = World(address, Path(folder), f"idle-{number}")
            for mark in range(VERSIONS):
                world.promote(world.release(10.0 * number + mark))
        settled: list[str] = []
        settings = Settings(home=Path(folder), mlflow_tracking_uri=address)
        watch = Watch(settings, lambda name: bool(settled.append(name)), print)
        watch.round()
        server = _listening(int(address.rpartition(":")[2]))
        begin, ours, theirs = time.perf_counter(), time.process_time(), _cpu_s(server)
        for _ in range(ROUNDS):
            watch.round()
        spent, hour = {"watch": time.process_time() - ours, "mlflow": _cpu_s(server) - theirs}, 3600 / POLL_S / ROUNDS
        print(f"{ROUNDS} rounds over {NAMES} name(s) in {time.perf_counter() - begin:.1f} s, on {os.cpu_count()} cores")
    if settled:
        sys.exit(f"nobody touched anything, and these were settled: {settled}")
    figures = {f"cpu_s_per_hour_{what}": round(seconds * hour, 1) for what, seconds in spent.items()}
    print(json.dumps({"names": NAMES, "versions": VERSIONS, "rounds": ROUNDS, **figures}))


def _listening(port: int) -> psutil.Process:
    """The process that has the port; it may be a child of the one that was started."""
    for process in psutil.Process().children(recursive=True):
        if any(one.laddr.port == port for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN):
            return process
    raise RuntimeError(f"no process of ours listens on {port}")


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
