"""The registry benchmark: kills at named points, racing promoters, hostile releases, and how long the calls take.

    make bench-registry [KILLS=200] [PROMOTIONS=200] [DATABASE=sqlite]

On a real MLflow server of its own, on SQLite or on a PostgreSQL of its own. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import machine
from benchmarks.registry.hostile import accepted
from benchmarks.registry.kills import kills, seconds
from benchmarks.registry.promoters import PROMOTERS, race
from benchmarks.registry.servers import QUIET, create_database, mlflow_server, postgres_server
from benchmarks.registry.world import World
from trimtab.registry.signing import sign_folder

BALLAST = 400_000  # bytes: with it a release is as large as that of examples/digits


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench-registry")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--promotions", type=int, default=200)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    given = parser.parse_args()
    if given.promotions % PROMOTERS:
        parser.error(f"--promotions must be a multiple of {PROMOTERS}: each of the promoters makes as many")
    return given


@contextlib.contextmanager
def served(folder: Path, database: str) -> Iterator[tuple[str, str | None]]:
    """An MLflow server; its address, and the ledger's URL where that is not SQLite."""
    with contextlib.ExitStack() as stack:
        store = ledger = None
        if database == "postgresql":
            postgres = stack.enter_context(postgres_server())
            store, ledger = (create_database(postgres, name) for name in ("mlflow", "ledger"))
        yield stack.enter_context(mlflow_server(folder, store)), ledger


def say(text: str) -> None:
    """To the person who waits."""
    print(text, file=sys.stderr, flush=True)


def measured(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All of it on one server, a release name for each part."""
    with served(folder, given.database) as (server, ledger):

        def world(name: str) -> World:
            (folder / name).mkdir()  # a release says whose it is: no two names share one
            return World(server, folder / name, name, ledger, BALLAST)

        times = seconds(world("timed"))
        say(f"register {times['seconds_register']} s, promote {times['seconds_promote']} s")
        found = kills(world("killed"), given.kills, say)
        raced = race(world("raced"), given.promotions)
        say(f"{raced['promotions']} promotions by {raced['promoters']} processes")
        attacked = world("attacked")
        release = attacked.submission().folder
        sign_folder(release, attacked.name, attacked.registry.keys)
        aside = folder / "aside"
        aside.mkdir()
        hostile, through = accepted(release, attacked.registry.keys, attacked.name, aside)
    return {
        "kills": sum(found.failpoints.values()),
        "failpoints": dict(sorted(found.failpoints.items())),
        "lost": found.lost,
        "duplicates": found.duplicates,
        "unverified_aliases": found.unverified_aliases,
        "stage_alias_mismatch": found.stage_alias_mismatch,
        **raced,
        "hostile": hostile,
        "hostile_accepted": len(through),
        "accepted": through,
        **times,
    }


def main() -> None:
    """Measure and print."""
    given, start = arguments(), time.monotonic()
    os.environ.update(QUIET)
    with TemporaryDirectory(prefix="trimtab-bench-") as folder:
        found = measured(given, Path(folder))
    about = {"commit": machine.commit(), "cpu": machine.cpu(), "database": given.database}
    print(json.dumps({**about, **found, "minutes": round((time.monotonic() - start) / 60, 1)}))


if __name__ == "__main__":
    main()
