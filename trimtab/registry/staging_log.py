"""Moves to stages that do not serve, as the promotion log has them.

Entries of stream "promotions/<name>", beside those of promotions:

    staging   {version, from, to, who, why}   the intent
    staged    {intent}                        done
    unstaged  {intent, why}                   given up
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trimtab.ledger import Entry


@dataclass(frozen=True)
class Staging:
    """A version's move from one stage to another.

    Attributes:
        before, to: names of MLflow's stages.
        who, why: for the record.
        seq, time: of the intent (UTC, ISO 8601).
    """

    version: int
    before: str
    to: str
    who: str
    why: str
    seq: int
    time: str


def moves(entries: Sequence[Entry]) -> tuple[list[Staging], Staging | None]:
    """Pure: the finished moves, oldest first, and the one that was begun and neither finished nor given up."""
    done, pending = list[Staging](), None
    for item in entries:
        act = item.entry["act"]
        if act == "staging":
            pending = _staging(item)
        elif act in ("staged", "unstaged") and pending is not None:
            done += [pending] if act == "staged" else []
            pending = None
    return done, pending


def _staging(item: Entry) -> Staging:
    entry = item.entry
    return Staging(entry["version"], entry["from"], entry["to"], entry["who"], entry["why"], item.seq, item.time)
