"""The circuit breaker: reactions that did not help, one after the other, are a reason to stop and ask a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from trimtab.monitoring.causes import CAUSES, Cause, can_say, causes
from trimtab.monitoring.verdict import Verdict

Action = Literal["none", "alert", "retrain", "rollback", "recompress"]


@dataclass(frozen=True)
class Reaction:
    """A reaction, as the ledger has it; times are seconds since the epoch.

    Attributes:
        verdict: digest of the verdict that caused it. cause, episode: what it was about.
        finished_at: None while it runs, or where it was cut short.
        version: what served because of it; None where it changed nothing.
        end: rows in the journal when it ended; windows that began before say nothing of it.
    """

    verdict: str
    action: Action
    started_at: float
    cause: str = ""
    episode: str = ""
    finished_at: float | None = None
    version: str | None = None
    end: int = 0


def helped(reaction: Reaction, history: Sequence[Verdict]) -> bool | None:
    """Whether a reaction helped; None where that cannot be said (yet).

    A retrain or recompression that changed nothing did not; one that did is judged by the first window of its version
    that could show the cause. A rollback only undoes, so it counts neither way unless it failed.

    Args:
        history: every window, see `episodes.windows`.
    """
    if reaction.finished_at is None:
        return None
    if reaction.version is None:
        return False
    cause = _cause(reaction)
    if reaction.action == "rollback" or cause is None:
        return None
    after = (v for v in history if v.version == reaction.version and can_say(v, cause))
    first = next(after, None)
    return None if first is None else cause not in causes(first)


def failures(reactions: Sequence[Reaction], history: Sequence[Verdict], n: int, closed_at: float | None) -> int:
    """How many reactions in a row did not help, counted back from the newest.

    Args:
        reactions: oldest first. n: so many healthy windows in a row after a failure make it forgotten.
        closed_at: when a person last closed the breaker; what was started before is forgotten.
    """
    count = 0
    for reaction in reversed(reactions):
        if closed_at is not None and reaction.started_at <= closed_at:
            break
        outcome = helped(reaction, history)
        if outcome is True or _healthy_stretch(history, reaction.end, n):
            break
        count += outcome is False
    return count


def _healthy_stretch(history: Sequence[Verdict], since: int, n: int) -> bool:
    run = 0
    for verdict in history:
        if verdict.lo >= since:
            run = 0 if causes(verdict) else run + (verdict.kind == "healthy")
            if run >= n:
                return True
    return False


def _cause(reaction: Reaction) -> Cause | None:
    """None for a reaction from before causes were written down."""
    return next((cause for cause in CAUSES if cause == reaction.cause), None)
