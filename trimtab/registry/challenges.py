"""The challenger of a release, by the ledger: which version is tried beside the champion, who said so and why.

Entries of stream "challenges/<name>", by `act`; a version of null means that nothing is tried any more:

    challenging {version, from, who, why}   the intent, before the alias is touched
    challenged  {intent}                    that intent is done: the alias is set, or gone
    outside     {version, from, who, why}   what the alias says now, after a hand in MLflow or a deletion
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trimtab.ledger import Entry, Ledger


def stream(name: str) -> str:
    """Ledger stream of a release's challengers."""
    return f"challenges/{name}"


@dataclass(frozen=True)
class Challenge:
    """A change of what is tried.

    Attributes:
        version, previous: what is tried after it and before it; None for nothing.
        seq, time: number and time (UTC, ISO 8601) of its entry in the ledger.
    """

    name: str
    version: int | None
    previous: int | None
    who: str
    why: str
    seq: int
    time: str

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        return asdict(self)


@dataclass(frozen=True)
class Challenges:
    """The stream, folded.

    Attributes:
        head: number of the last entry (for compare-and-set).
        last: the last change that is done. pending: an intent that is not.
    """

    head: int = 0
    last: Challenge | None = None
    pending: Challenge | None = None

    @property
    def version(self) -> int | None:
        """What is tried, by the ledger."""
        return None if self.last is None else self.last.version


def read_challenges(ledger: Ledger, name: str) -> Challenges:
    """Fold the stream of a release."""
    return fold(name, ledger.read(stream(name)))


def fold(name: str, entries: Sequence[Entry]) -> Challenges:
    """Pure: the state after these entries."""
    last = pending = None
    for item in entries:
        if item.entry["act"] == "challenging":
            pending = _challenge(name, item)
        elif item.entry["act"] == "challenged" and pending is not None:
            last, pending = pending, None
        elif item.entry["act"] == "outside":
            last, pending = _challenge(name, item), None
    return Challenges(entries[-1].seq if entries else 0, last, pending)


def _challenge(name: str, item: Entry) -> Challenge:
    entry = item.entry
    return Challenge(name, entry["version"], entry["from"], entry["who"], entry["why"], item.seq, item.time)
