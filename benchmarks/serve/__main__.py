"""The serving benchmark: requests a second and tails of four servers on one model, and of the bare runtime.

    make bench-serve              (or: python -m benchmarks.serve [--rounds 5] [--seconds 4] [--open-seconds 15])

Closed loop: wrk, one thread, 8 connections; every server is up all the time, and rounds go through all servers and
bodies in random order. Open loop: Poisson arrivals at 70 % of a server's capacity (JSON, one row a request); ours and
the small app at both rates, and what one queue without any fault would make of the same arrivals. All servers have one
inference thread; ours journals every row with its inputs. With four cores or more the load generator has the last one
to itself; with fewer it shares it, and all servers may use every core. The last line is one JSON object; a cell that is
null is explained under "why".
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serve.checks import check_journal, check_sample, journal_bytes, probe
from benchmarks.serve.closed_loop import CONNECTIONS, Load, load, refuse_without_wrk
from benchmarks.serve.open_loop import Unanswered, poisson, queue_alone
from benchmarks.serve.report import OURS, capacity, report
from benchmarks.serve.servers import Server, running
from benchmarks.serve.task import BATCHES, BODIES, CELLS, batch_of, bodies

WORK = Path(".bench/serve")
SHARE, OPEN_CELL, SMALL = 0.7, "json_b1", "starlette"
SEED = 0
FREE_BYTES = 8 * 2**30  # the journal of a run


class Bench:
    """What is measured so far."""

    def __init__(self, folder: Path, given: argparse.Namespace) -> None:
        self.folder, self.given = folder, given
        cores = sorted(os.sched_getaffinity(0))
        self.client_cpus = {cores[-1]}
        self.server_cpus = set(cores[:-1]) if len(cores) >= 4 else set(cores)
        self.measured: dict[tuple[str, str], list[Load]] = defaultdict(list)
        self.limits: dict[int, list[float]] = defaultdict(list)
        self.beside: dict[int, list[float]] = defaultdict(list)
        self.open_loop: dict[str, dict[str, float | None]] = defaultdict(dict)
        self.queue_alone: dict[str, dict[str, float]] = {}
        self.why: dict[str, str] = {}
        self.rows = self.unseen = self.checked = 0
        self.journalled = self.journal_s = 0.0

    def closed(self, server: Server, cell: str, seconds: float) -> Load:
        """Load one server with one cell."""
        before = journal_bytes(self.folder)
        headers = server.headers(cell)
        assert headers is not None
        seen = load(server.url, bodies(self.folder, cell), headers, seconds, self.client_cpus, self.folder)
        if server.name == OURS:
            self.rows += seen.requests * batch_of(cell)
            self.unseen += CONNECTIONS * batch_of(cell)
            self.journalled += journal_bytes(self.folder) - before
            self.journal_s += seconds
        return seen

    def rounds(self, cells: Sequence[tuple[Server, str]]) -> None:
        """All rounds of all cells and of the bare runtime, after one to warm up that does not count."""
        for server, cell in cells:
            self.closed(server, cell, self.given.seconds)
        jobs: list[tuple[Server | None, str]] = [*cells, *((None, f"limit_b{batch}") for batch in BATCHES)]
        for number in range(self.given.rounds):
            order = list(jobs)
            random.Random(number).shuffle(order)
            for server, cell in order:
                if server is None:
                    self.limits[batch_of(cell)].append(self._limit(batch_of(cell)))
                    self.beside[batch_of(cell)].append(self._beside(batch_of(cell)))
                else:
                    self.measured[server.name, cell].append(self.closed(server, cell, self.given.seconds))
            last = {f"{server} {cell}": round(loads[-1].req_s, 1) for (server, cell), loads in self.measured.items()}
            print(f"round {number + 1} of {self.given.rounds}: {last}", file=sys.stderr)

    def opened(self, servers: Sequence[Server]) -> None:
        """The open loop."""
        capacities = {server.name: capacity(self.measured, server.name, OPEN_CELL) or 0 for server in servers}
        os.sched_setaffinity(0, self.client_cpus)
        for server in servers:
            both = {OURS, SMALL} if server.name in (OURS, SMALL) else {server.name}
            for name in sorted(both & capacities.keys()):
                rate = SHARE * capacities[name]
                self.open_loop[server.name][f"{rate:.0f}"] = self._poisson(server, rate)
                if server.name == OURS:
                    limit = statistics.median(self.limits[batch_of(OPEN_CELL)])
                    speeds = {"as_fast_as_ours": capacities[OURS], "as_fast_as_the_runtime": limit}
                    alone = {what: self._alone(rate, 1 / speed) for what, speed in speeds.items()}
                    self.queue_alone[f"{rate:.0f}"] = alone

    def _alone(self, rate: float, service_s: float) -> float:
        """p99, ms."""
        return round(1000 * _p99(queue_alone(rate, self.given.open_seconds, SEED, service_s)), 2)

    def _poisson(self, server: Server, rate: float) -> float | None:
        headers = server.headers(OPEN_CELL)
        assert headers is not None
        paths = bodies(self.folder, OPEN_CELL)
        try:
            answered = poisson(server.url, paths, headers, rate, self.given.open_seconds, SEED)
        except Unanswered as error:
            self.why[f"open_loop {server.name} {rate:.0f}"] = str(error)
            self.unseen += error.sent if server.name == OURS else 0
            return None
        if wrong := sorted({one.status for one in answered} - {200, 503}):
            raise SystemExit(f"{server.name}, open loop: answered with {wrong}")
        good = [one for one in answered if one.status == 200]
        self.rows += len(good) if server.name == OURS else 0
        self.checked += check_sample(f"{server.name}, open loop", good, self.folder, OPEN_CELL)
        refused = len(answered) - len(good)
        if refused:
            self.why[f"open_loop {server.name} {rate:.0f}"] = f"{refused} of {len(answered)} were refused with 503"
        waits = [one.seconds for one in good] + [math.inf] * refused
        p99 = _p99(waits)
        return round(p99 * 1000, 2) if math.isfinite(p99) else None

    def _limit(self, batch: int) -> float:
        return self._rates(batch, 1)[0]

    def _beside(self, batch: int) -> float:
        """Of one of two loops at once: on a machine whose cores are not whole ones, less than of one alone."""
        return statistics.mean(self._rates(batch, 2))

    def _rates(self, batch: int, loops: int) -> list[float]:
        """Calls a second of so many loops at once."""
        command = [sys.executable, "-m", "benchmarks.serve.limit", str(self.folder / "model.onnx"), str(batch)]
        children = [
            subprocess.Popen(
                [*command, str(self.given.seconds)],
                stdout=subprocess.PIPE,
                text=True,
                preexec_fn=lambda: os.sched_setaffinity(0, self.server_cpus),
            )
            for _ in range(loops)
        ]
        said = [child.communicate()[0] for child in children]
        if any(child.returncode for child in children):
            raise SystemExit("the loop of the bare runtime ended with an error")
        return [float(json.loads(one.splitlines()[-1])["calls_s"]) for one in said]


def _p99(waits: Sequence[float]) -> float:
    return float(np.quantile(waits, 0.99, method="inverted_cdf"))


def run(bench: Bench) -> dict[str, Any]:
    """Everything, with all servers up."""
    with running(bench.folder, bench.server_cpus) as (servers, missing):
        bench.why |= missing
        cells = []
        for server in servers:
            for cell in CELLS:
                if reason := probe(server, bench.folder, cell):
                    bench.why[f"{server.name} {cell}"] = reason
                    continue
                cells.append((server, cell))
                bench.checked += BODIES
                bench.rows += BODIES * batch_of(cell) if server.name == OURS else 0
        bench.rounds(cells)
        bench.opened(servers)
        for server, cell in cells:  # and once more, after all that load
            probe(server, bench.folder, cell)
            bench.rows += BODIES * batch_of(cell) if server.name == OURS else 0
        ours = next(server for server in servers if server.name == OURS)
        journal: Mapping[str, float] = {
            **check_journal(ours, bench.folder, bench.rows, bench.unseen),
            "mb_s": round(bench.journalled / 1e6 / bench.journal_s, 1),
        }
    about = {
        "n": bench.given.rounds,
        "seconds": bench.given.seconds,
        "connections": CONNECTIONS,
        "placement": {"servers": sorted(bench.server_cpus), "load": sorted(bench.client_cpus)},
        "answers_checked": bench.checked,
        "why": bench.why,
        "open_loop_of_a_queue_alone": bench.queue_alone,
    }
    return report(bench.measured, bench.limits, bench.beside, journal, bench.open_loop, about)


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(prog="make bench-serve")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement of the closed loop")
    parser.add_argument("--open-seconds", type=float, default=15, help="of each measurement of the open loop")
    given = parser.parse_args()
    refuse_without_wrk()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the servers are stopped on the way out
    folder = (WORK / "run").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if (free := shutil.disk_usage(folder).free) < FREE_BYTES:
        raise SystemExit(f"{folder} has {free >> 30} GiB free; the journal of a run takes up to {FREE_BYTES >> 30}")
    os.environ["PYTHONPATH"] = str(Path.cwd())
    subprocess.run([sys.executable, "-m", "benchmarks.serve.model", str(folder)], check=True, stdout=sys.stderr)
    bench = Bench(folder, given)
    try:
        print(json.dumps(run(bench)))
    finally:
        shutil.rmtree(folder / "home", ignore_errors=True)


if __name__ == "__main__":
    main()
