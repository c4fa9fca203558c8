"""Register, promote and roll back, killed at every named point in turn, started again, and counted."""

from __future__ import annotations

import itertools
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks.registry.world import World, killed_at, points_of
from trimtab.registry import versions
from trimtab.registry.alias import aliases
from trimtab.registry.promote import champion, reconcile

TIMED = 15


@dataclass
class Count:
    """What was found after recovery, over all kills.

    Attributes:
        failpoints: kills at each point.
        lost: what the calls had been asked for and is not so after they were made again.
        duplicates: further versions or models of one release.
        unverified_aliases: aliases at a version that must not serve.
        stage_alias_mismatch: times that stage, alias, ledger and the light reader did not agree.
    """

    failpoints: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    duplicates: int = 0
    unverified_aliases: int = 0
    stage_alias_mismatch: int = 0

    def look(self, world: World) -> None:
        """After a recovery: what holds for the release name whatever was asked for."""
        for version in aliases(world.registry.client, world.name).values():
            self.unverified_aliases += versions.unfit(world.registry, world.name, version) is not None
        self.stage_alias_mismatch += bool(world.disagreements())


def kills(world: World, count: int, say: Callable[[str], None]) -> Count:
    """Kill so many times, the three calls in turn, each at its next point.

    Args:
        say: told how far it is.
    """
    good, other = world.release(-1.0), world.release(-2.0)
    world.promote(good)
    found = Count()
    turns = {
        "register": itertools.cycle(points_of(lambda: world.release(-3.0))),
        "promote": itertools.cycle(points_of(lambda: world.promote(other))),
        "rollback": itertools.cycle(points_of(lambda: world.back_from(other))),
    }
    marks = itertools.count()
    for number, action in zip(range(count), itertools.cycle(turns), strict=False):
        point = next(turns[action])
        found.failpoints[point] += 1
        if action == "register":
            _register(world, found, next(marks), point)
        elif action == "promote":
            _promote(world, found, good, other, point)
        else:
            _rollback(world, found, good, other, point)
        found.look(world)
        if number % 20 == 19:
            say(f"{number + 1} of {count} kills")
    return found


def _register(world: World, found: Count, mark: int, point: str) -> None:
    killed_at(world, "register", float(mark), point)
    version = world.release(mark)
    made = world.versions(mark)
    found.lost += version not in made or versions.unfit(world.registry, world.name, version) is not None
    found.duplicates += len(made) - 1 + len(world.models(mark)) - 1


def _promote(world: World, found: Count, good: int, other: int, point: str) -> None:
    """From the one to the other or back. What was begun is finished by the next start; asked for again, it is so."""
    now = champion(world.registry, world.name)
    target = good if now is not None and now.version == other else other
    killed_at(world, "promote", target, point)
    reconcile(world.registry, world.name)
    if point != "promote.intent:before":  # nothing had been begun
        found.lost += _serving(world) != target
    world.promote(target)
    found.lost += _serving(world) != target


def _rollback(world: World, found: Count, good: int, other: int, point: str) -> None:
    world.promote(good)
    world.promote(other)
    killed_at(world, "rollback", other, point)
    again = world.back_from(other)
    found.lost += (again.version, _serving(world)) != (good, good)


def _serving(world: World) -> int | None:
    now = champion(world.registry, world.name)
    return now.version if now else None


def seconds(world: World) -> dict[str, Any]:
    """Medians of registering a new release and of promoting, on a warm server: {"seconds_register": s, …}."""
    marks = [1000.0 + number for number in range(TIMED + 1)]
    for mark in marks:
        world.submission(mark)  # packing it is the release's work, not the registry's
    registered = list(_timed(world.release, marks))
    promoted = list(_timed(world.promote, [version for version, _ in registered]))
    return {
        "seconds_register": round(statistics.median(taken for _, taken in registered[1:]), 3),
        "seconds_promote": round(statistics.median(taken for _, taken in promoted[1:]), 3),
        "seconds_register_max": round(max(taken for _, taken in registered[1:]), 3),
        "seconds_promote_max": round(max(taken for _, taken in promoted[1:]), 3),
        "timed": TIMED,
    }


def _timed(call: Callable[[Any], Any], arguments: list[Any]) -> Iterator[tuple[Any, float]]:
    for argument in arguments:
        start = time.perf_counter()
        result = call(argument)
        yield result, time.perf_counter() - start
