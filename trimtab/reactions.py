"""What the ledger has of reactions and alerts: folded from its entries alone, and what people add to it.

Entries of stream "reactions/<name>", by `act`:

    proposed  {verdict, action, reason, cause, episode, run}   a person is asked; nothing is done yet
    approved  {verdict, who}                                   a person agreed
    started   {verdict, action, reason, cause, episode, run}   it begins
    finished  {verdict, run, outcome, version, end, release}   how it ended; version: what serves because of it, or null
    closed    {who, reason}                                    a person closed the circuit breaker
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from trimtab.ledger import Entry, Ledger
from trimtab.monitoring.breaker import Reaction
from trimtab.monitoring.policy import Decision


def stream(name: str) -> str:
    """Ledger stream of a release's reactions."""
    return f"reactions/{name}"


def alerts_stream(name: str) -> str:
    """Ledger stream of a release's alerts."""
    return f"alerts/{name}"


@dataclass(frozen=True)
class Proposal:
    """A reaction that waits for a person: the decision, the flow run that is suspended, and whether it was approved."""

    decision: Decision
    run: str
    time: str
    approved: bool = False


@dataclass(frozen=True)
class Book:
    """The stream, folded; oldest first.

    Attributes:
        reactions: those that were started.
        proposals: those that a person was asked about.
        closed_at: when the circuit breaker was last closed, seconds since the epoch.
    """

    reactions: tuple[Reaction, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    approved: frozenset[str] = frozenset()
    closed_at: float | None = None

    def open_proposal(self) -> Proposal | None:
        """The newest one that nobody has approved and whose reaction was not started otherwise."""
        started = {reaction.verdict for reaction in self.reactions}
        waiting = [one for one in self.proposals if not one.approved and one.decision.verdict_digest not in started]
        return waiting[-1] if waiting else None


def fold(entries: Sequence[Entry]) -> Book:
    """The state after these entries."""
    reactions: dict[str, Reaction] = {}
    proposals: list[Proposal] = []
    approved: set[str] = set()
    closed_at: float | None = None
    for item in entries:
        entry, act = item.entry, item.entry["act"]
        if act == "started":
            reactions[entry["verdict"]] = _started(entry, seconds(item.time))
        elif act == "finished" and entry["verdict"] in reactions:
            reactions[entry["verdict"]] = _finished(reactions[entry["verdict"]], entry, seconds(item.time))
        elif act == "proposed":
            proposals.append(Proposal(decision_of(entry), entry["run"], item.time))
        elif act == "approved":
            approved.add(entry["verdict"])
        elif act == "closed":
            closed_at = seconds(item.time)
    known = tuple(replace(one, approved=one.decision.verdict_digest in approved) for one in proposals)
    return Book(tuple(reactions.values()), known, frozenset(approved), closed_at)


def read(ledger: Ledger, name: str) -> Book:
    """The state of a release's reactions."""
    return fold(ledger.read(stream(name)))


def propose(ledger: Ledger, name: str, decision: Decision, run: str) -> None:
    """Write down that a person is asked, and which flow run waits for the answer."""
    entry = {"act": "proposed", "verdict": decision.verdict_digest, **decision.to_json(), "run": run}
    ledger.record(stream(name), entry, expect_seq=None)


def approve(ledger: Ledger, name: str, digest: str, who: str) -> None:
    """Write down that a person agreed to a proposal; once is enough."""
    if digest not in read(ledger, name).approved:
        ledger.record(stream(name), {"act": "approved", "verdict": digest, "who": who}, expect_seq=None)


def close_breaker(ledger: Ledger, name: str, who: str, why: str) -> None:
    """Let reactions that did not help be forgotten."""
    ledger.record(stream(name), {"act": "closed", "who": who, "reason": why}, expect_seq=None)


def said(entries: Sequence[Entry]) -> frozenset[str]:
    """Episodes that have their alert."""
    return frozenset(item.entry["episode"] for item in entries if item.entry.get("episode"))


def decision_of(entry: dict[str, Any]) -> Decision:
    """The decision that an entry was written for."""
    return Decision(
        entry["action"], entry["reason"], entry["verdict"], entry.get("cause", ""), entry.get("episode", "")
    )


def seconds(iso: str) -> float:
    """Seconds since the epoch of an entry's time."""
    return datetime.fromisoformat(iso).timestamp()


def _started(entry: dict[str, Any], at: float) -> Reaction:
    return Reaction(entry["verdict"], entry["action"], at, entry.get("cause", ""), entry.get("episode", ""))


def _finished(reaction: Reaction, entry: dict[str, Any], at: float) -> Reaction:
    release = entry.get("release") or {}
    version = entry.get("version", release.get("version"))
    return replace(
        reaction, finished_at=at, version=None if version is None else str(version), end=int(entry.get("end", 0))
    )
