"""The promotion log of a release: what served when, who decided it and why; read from the ledger alone.

Entries of stream "promotions/<name>", by `act`:

    promoting  {kind, version, from, who, why, evidence}   the intent, before anything is touched; with {outside: true}
                                                           that of honouring what somebody set in MLflow
    promoted   {intent}                                    that intent is done (alias and stages are set)
    undone     {intent, why}                               that intent was given up; what served before serves
    restored   {refused, version, who, why}                what somebody set in MLflow was put back: to an unverified
                                                           version, or (refused: null) to nothing
    lost       {version, who, why}                         the champion was taken away and cannot be put back
    outside    {kind, version, from, who, why}             as `promoting` and `promoted` with outside; no longer written

What serves is the top of a stack: a promotion puts a version on it, a rollback takes the top off.
Example: promote 3, promote 7, rollback leaves [3]; the way back ("previous") from [3, 7] is 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.ledger import Entry, Ledger

PROMOTE, ROLLBACK = "promote", "rollback"
OUTSIDE = "outside"  # as author of what was set by hand in MLflow, which keeps no name
BY_HAND = "by hand in MLflow"


def stream(name: str) -> str:
    """Ledger stream of a release's promotions."""
    return f"promotions/{name}"


@dataclass(frozen=True)
class Promotion:
    """A change of what serves.

    Attributes:
        kind: "promote" or "rollback".
        version, previous: what serves after it; what served before it (None for the first).
        who, why: who decided it and the reason, for people.
        evidence: JSON, e.g. the digest of the report or the verdict's id.
        seq, time: number and time (UTC, ISO 8601) of its entry in the ledger.
        outside: made by hand in MLflow and honoured afterwards.
    """

    name: str
    kind: str
    version: int
    previous: int | None
    who: str
    why: str
    evidence: Any
    seq: int
    time: str
    outside: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class Log:
    """The stream, folded.

    Attributes:
        head: number of the last entry (for compare-and-set).
        done: finished promotions, oldest first.
        serving: stack of versions; the last one serves.
        pending: an intent that was neither done nor undone.
    """

    head: int = 0
    done: tuple[Promotion, ...] = ()
    serving: tuple[int, ...] = ()
    pending: Promotion | None = None

    @property
    def champion(self) -> int | None:
        """What serves, by the ledger."""
        return self.serving[-1] if self.serving else None

    @property
    def previous(self) -> int | None:
        """The way back."""
        return way_back(self.serving)


def read_log(ledger: Ledger, name: str) -> Log:
    """Fold the stream of a release."""
    return fold(name, ledger.read(stream(name)))


def fold(name: str, entries: Sequence[Entry]) -> Log:
    """Pure: the state after these entries."""
    done: list[Promotion] = []
    serving: tuple[int, ...] = ()
    pending: Promotion | None = None
    for item in entries:
        act = item.entry["act"]
        if act == "promoting":
            pending = _promotion(name, item)
        elif act == "undone":
            pending = None
        elif act == "outside" or (act == "promoted" and pending is not None):
            finished = pending if act == "promoted" and pending else _promotion(name, item)
            serving = after(serving, finished.kind, finished.version)
            done.append(finished)
            pending = None
    return Log(entries[-1].seq if entries else 0, tuple(done), serving, pending)


def after(serving: tuple[int, ...], kind: str, version: int) -> tuple[int, ...]:
    """The stack after a promotion or rollback to a version."""
    if kind == ROLLBACK and version in serving[:-1]:
        last = len(serving) - 2 - serving[:-1][::-1].index(version)
        return serving[: last + 1]
    return (*serving, version)


def way_back(serving: Sequence[int]) -> int | None:
    """The nearest version below the top that is not the top's."""
    below = [version for version in serving if version != serving[-1]] if serving else []
    return below[-1] if below else None


def served_at(promotions: Sequence[Promotion], time: str) -> int | None:
    """Which version served at a time (UTC, ISO 8601); None before the first promotion."""
    versions = [promotion.version for promotion in promotions if promotion.time <= time]
    return versions[-1] if versions else None


def _promotion(name: str, item: Entry) -> Promotion:
    entry = item.entry
    return Promotion(
        name=name,
        kind=entry["kind"],
        version=entry["version"],
        previous=entry["from"],
        who=entry["who"],
        why=entry["why"],
        evidence=entry.get("evidence"),
        seq=item.seq,
        time=item.time,
        outside=entry["act"] == "outside" or entry.get("outside", False),
    )
