"""Promotes, kills, floods and starves the scoring service, ten to fifteen minutes long.

    make soak            (or: python -m benchmarks.soak [--promotions 50] [--kills 5] [--hostile 100000])

A real MLflow server with two releases, a proxy that can be down or slow, real service processes. Every ordinary answer
is compared with what the version that it names answers. The last line is one JSON object; exit code 1 if an aim is
missed: no failed request, no acknowledged row lost, no 5xx but honest 503s, memory within 5 % after warm-up.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.machine import commit, cpu
from benchmarks.soak import phases
from benchmarks.soak.load import Tally
from benchmarks.soak.world import World
from deployments.environment import apply
from trimtab.settings import Settings

MOST_GROWTH = 0.05
Result = TypeVar("Result")


def main() -> int:
    """All of it."""
    parser = argparse.ArgumentParser(prog="make soak")
    parser.add_argument("--promotions", type=int, default=50)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--hostile", type=int, default=100_000)
    given = parser.parse_args()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="trimtab-soak-") as scratch:
        world = World(Path(scratch))
        apply(Settings(home=world.settings.home))
        with world.running():
            found = soak(world, given, begin)
    print(json.dumps({**found, "seconds": round(time.monotonic() - begin, 1)}))
    return 0 if aims_met(found) else 1


def soak(world: World, given: argparse.Namespace, begin: float) -> dict[str, Any]:
    """Every phase; what the last line says."""

    def phase(name: str, work: Callable[[], Result]) -> Result:
        print(f"{time.monotonic() - begin:6.1f} s  {name}", file=sys.stderr, flush=True)
        return work()

    promoted = phase(f"{given.promotions} promotions and rollbacks", lambda: phases.promotions(world, given.promotions))
    registry, registry_facts = phase("registry down, then slow", lambda: phases.registry_faults(world))
    acknowledged, lost = phase(f"{given.kills} times kill -9", lambda: phases.kills(world, given.kills))
    disk, disk_facts = phase("full disk", lambda: phases.full_disk(world))
    clock, clock_facts = phase("clock jumps", lambda: phases.clock_jump(world))
    seen, growth, weight = phase(f"{given.hostile} hostile requests", lambda: phases.hostile(world, given.hostile))
    tallies = {"promotions": promoted, "registry": registry, "disk": disk, "clock": clock}
    for name, tally in tallies.items():
        if tally.failed:
            print(f"failed during {name}: {dict(tally.why)}", file=sys.stderr)
    for kind, example in seen.examples.items():
        print(f"{kind}: {example[:600]!r}", file=sys.stderr)
    return {
        "commit": commit(),
        "cpu": cpu(),
        "user": phases.user(),
        "promotions": given.promotions,
        "failed": sum(tally.failed for tally in tallies.values()),
        "mismatched": sum(tally.mismatched for tally in tallies.values()),
        "answered": {name: tally.answered for name, tally in tallies.items()},
        "versions": dict(promoted.versions),
        "kills": given.kills,
        "acknowledged": acknowledged,
        "lost": lost + (disk_facts["lost"] or 0) + clock_facts["lost"],
        "hostile": seen.sent,
        "bad_5xx": seen.bad_5xx,
        "malformed_errors": seen.malformed,
        "statuses": dict(sorted(seen.statuses.items())),
        "rss_growth": round(growth, 4),
        "rss_mb": {name: round(value / 2**20, 1) for name, value in weight.items()},
        "full_disk": disk_facts,
        "registry": registry_facts,
        "shed": shed(tallies),
        "schemathesis": "not run" if importlib.util.find_spec("schemathesis") is None else "installed, not run here",
    }


def shed(tallies: dict[str, Tally]) -> int:
    """Rows that were answered without the journal where its disk was not full."""
    return sum(tally.shed for name, tally in tallies.items() if name != "disk")


def aims_met(found: dict[str, Any]) -> bool:
    """Whether it is as sturdy as it should be."""
    zero = ("failed", "mismatched", "lost", "bad_5xx", "malformed_errors", "shed")
    return not any(found[key] for key in zero) and found["rss_growth"] <= MOST_GROWTH


if __name__ == "__main__":
    sys.exit(main())
