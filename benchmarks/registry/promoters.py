"""Eight processes promote at once while a reader asks for the champion all the time."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from benchmarks.registry.servers import QUIET
from benchmarks.registry.world import PROCESSES, World
from trimtab.errors import Conflict, RegistryError
from trimtab.registry import follow
from trimtab.registry.promotions import Promotion, read_log, stream

PROMOTERS = 8
GIVE_UP_S = 1800.0
LATE = "9999"  # after every time of the ledger (ISO 8601)


@dataclass(frozen=True)
class Sight:
    """What the reader saw under the alias: asked and answered at (UTC), the version or None."""

    asked: str
    answered: str
    version: int | None


class Reader(threading.Thread):
    """Asks for the champion without a pause until it is stopped."""

    def __init__(self, world: World) -> None:
        super().__init__(name="reader", daemon=True)
        self._world, self._end = world, threading.Event()
        self.seen: list[Sight] = []
        self.unanswered = 0

    def run(self) -> None:
        """Look until stopped."""
        while not self._end.is_set():
            asked = _now()
            try:
                version = follow.current_champion(self._world.server, self._world.name)
            except RegistryError:
                self.unanswered += 1
            else:
                self.seen.append(Sight(asked, _now(), version))

    def stop(self) -> None:
        """End and wait for the end."""
        self._end.set()
        self.join()


def race(world: World, promotions: int) -> dict[str, Any]:
    """Promote so many times in all, each process between two versions of its own, so that every one is a change.

    Returns:
        Counts: {"promoters", "promotions" (in the ledger), "told" (conflicts), "reads", "unanswered", "read_none",
        "read_wrong", "history_gaps" (entries that do not begin where the one before ended), "champions" (1 if all
        is well)}.

    Raises:
        RuntimeError: a promoter failed, or did not come to its end.
    """
    each, rest = divmod(promotions, PROMOTERS)
    if rest:
        raise ValueError(f"{promotions} promotions are not the same number for each of {PROMOTERS} processes")
    first, *made = [world.release(5000.0 + number) for number in range(2 * PROMOTERS + 1)]
    world.promote(first)
    before = read_log(world.registry.ledger, world.name)
    reader = Reader(world)
    reader.start()
    try:
        told = _promoters(world, list(zip(made[::2], made[1::2], strict=True)), each)
    finally:
        reader.stop()
    world.registry.ledger.check(stream(world.name))
    done = read_log(world.registry.ledger, world.name).done[len(before.done) - 1 :]
    entries = world.registry.ledger.read(stream(world.name))
    ends = {item.entry["intent"]: item.time for item in entries if item.entry["act"] == "promoted"}
    versions_seen = [sight for sight in reader.seen if sight.version is not None]
    return {
        "promoters": PROMOTERS,
        "promotions": len(done) - 1,
        "told": told,
        "reads": len(reader.seen),
        "unanswered": reader.unanswered,
        "read_none": len(reader.seen) - len(versions_seen),
        "read_wrong": sum(not _was_true(sight, done, ends) for sight in versions_seen),
        "history_gaps": sum(late.previous != early.version for early, late in itertools.pairwise(done)),
        "champions": len(world.stages("Production")),
    }


def _promoters(world: World, pairs: list[tuple[int, int]], each: int) -> int:
    told = PROCESSES.Queue()
    where = (world.server, world.folder, world.name, world.ledger_url)
    racers = [PROCESSES.Process(target=_work, args=(*where, pair, each, told)) for pair in pairs]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(GIVE_UP_S)
    codes = [racer.exitcode for racer in racers]
    if codes != [0] * len(racers):
        raise RuntimeError(f"promoters ended with {codes}")
    return sum(told.get() for _ in racers)


def _work(server: str, folder: Any, name: str, ledger: str, pair: tuple[int, int], each: int, told: Any) -> None:
    """Promote the one and the other in turn; who is told that another was first tries again, as a person would."""
    os.environ.update(QUIET)
    world, conflicts, done = World(server, folder, name, ledger), 0, 0
    while done < each:
        try:
            world.promote(pair[done % 2])
            done += 1
        except Conflict:
            conflicts += 1
    told.put(conflicts)


def _was_true(sight: Sight, done: Sequence[Promotion], ends: Mapping[int, str]) -> bool:
    """Whether this version was champion at some moment while the question was under way.

    A promotion takes effect between its intent, whose time the ledger gives, and its "promoted"; what it replaces may
    be seen until the latter.
    """
    for one, following in zip(done, [*done[1:], None], strict=True):
        over = ends[following.seq] if following is not None else LATE
        if one.version == sight.version and one.time <= sight.answered and sight.asked <= over:
            return True
    return False


def _now() -> str:
    return datetime.now(UTC).isoformat()
