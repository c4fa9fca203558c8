"""What the ledger has of reactions and alerts: folded from its entries alone, and what people add to it.

Entries of stream "reactions/<name>", by `act`:

    proposed  {verdict, action, reason, cause, episode, run, expires}
                                                               a person is asked; nothing is done yet
    approved  {verdict, who}                                   a person agreed
    expired   {verdict, action, proposed, run}                 nobody did in time; it cannot be approved any more
    started   {verdict, action, reason, cause, episode, run}   it begins
    finished  {verdict, run, outcome, version, end, release}   how it ended; version: what serves because of it, or null
    closed    {who, reason}                                    a person closed the circuit breaker
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from trimtab.errors import Conflict, StateError
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
    """A reaction that waits for a person.

    Attributes:
        decision: what is proposed. run: the flow run that is suspended. time: when it was asked, ISO 8601.
        expires: until when it can be approved, seconds since the epoch; None of one from before there was an end.
        approved, expired: what became of it.
    """

    decision: Decision
    run: str
    time: str
    expires: float | None = None
    approved: bool = False
    expired: bool = False

    def ends(self, after_s: float) -> float:
        """Until when it can be approved, seconds since the epoch; where it does not say, so long after it was asked."""
        return seconds(self.time) + after_s if self.expires is None else self.expires

    def over(self, now: float) -> bool:
        """Whether the time in which it could be approved has passed, as far as it says itself."""
        return self.expired or (not self.approved and now >= self.ends(math.inf))

    def in_words(self) -> str:
        """E.g. "the retrain proposed on 2026-11-30 08:15 UTC for verdict 0123456789ab"."""
        asked = datetime.fromisoformat(self.time).astimezone(UTC)
        digest = self.decision.verdict_digest[:12]
        return f"the {self.decision.action} proposed on {asked:%Y-%m-%d %H:%M} UTC for verdict {digest}"


@dataclass(frozen=True)
class Book:
    """The stream, folded; oldest first.

    Attributes:
        reactions: those that were started.
        proposals: those that a person was asked about.
        approved: digests of verdicts whose reaction a person agreed to.
        closed_at: when the circuit breaker was last closed, seconds since the epoch.
    """

    reactions: tuple[Reaction, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    approved: frozenset[str] = frozenset()
    closed_at: float | None = None

    @property
    def expired(self) -> frozenset[str]:
        """Digests of verdicts whose reaction was proposed and cannot be approved any more."""
        return frozenset(one.decision.verdict_digest for one in self.proposals if one.expired)

    def unanswered(self) -> list[Proposal]:
        """Those that nobody has approved and whose reaction was not started otherwise, expired ones too."""
        started = {reaction.verdict for reaction in self.reactions}
        return [one for one in self.proposals if not one.approved and one.decision.verdict_digest not in started]

    def waiting(self) -> list[Proposal]:
        """Those of them that are not recorded as expired."""
        return [one for one in self.unanswered() if not one.expired]

    def open_proposal(self) -> Proposal | None:
        """The newest one that waits; where none does, the newest one that expired, which cannot be approved."""
        found = self.waiting() or self.unanswered()
        return found[-1] if found else None


def fold(entries: Sequence[Entry]) -> Book:
    """The state after these entries."""
    reactions: dict[str, Reaction] = {}
    proposals: list[Proposal] = []
    approved: set[str] = set()
    expired: set[str] = set()
    closed_at: float | None = None
    for item in entries:
        entry, act = item.entry, item.entry["act"]
        if act == "started":
            reactions[entry["verdict"]] = _started(entry, seconds(item.time))
        elif act == "finished" and entry["verdict"] in reactions:
            reactions[entry["verdict"]] = _finished(reactions[entry["verdict"]], entry, seconds(item.time))
        elif act == "proposed":
            expires = seconds(entry["expires"]) if entry.get("expires") else None
            proposals.append(Proposal(decision_of(entry), entry["run"], item.time, expires))
        elif act == "approved" and entry["verdict"] not in expired:
            approved.add(entry["verdict"])
        elif act == "expired" and entry["verdict"] not in approved:
            expired.add(entry["verdict"])
        elif act == "closed":
            closed_at = seconds(item.time)
    digests = [one.decision.verdict_digest for one in proposals]
    known = tuple(
        replace(one, approved=digest in approved, expired=digest in expired)
        for one, digest in zip(proposals, digests, strict=True)
    )
    return Book(tuple(reactions.values()), known, frozenset(approved), closed_at)


def read(ledger: Ledger, name: str) -> Book:
    """The state of a release's reactions."""
    return fold(ledger.read(stream(name)))


def propose(ledger: Ledger, name: str, decision: Decision, run: str, expires: float | None = None) -> None:
    """Write down that a person is asked, which flow run waits for the answer, and until when.

    Args:
        expires: seconds since the epoch.
    """
    entry = {"act": "proposed", "verdict": decision.verdict_digest, **decision.to_json(), "run": run}
    if expires is not None:
        entry["expires"] = datetime.fromtimestamp(expires, UTC).isoformat()
    ledger.record(stream(name), entry, expect_seq=None)


def approve(ledger: Ledger, name: str, digest: str, who: str, now: float | None = None) -> None:
    """Write down that a person agreed to a proposal; once is enough.

    Args:
        now: seconds since the epoch; None: the clock's.

    Raises:
        StateError: it has expired; that is written down, if it was not yet.
    """
    now = time.time() if now is None else now

    def entry(book: Book) -> dict[str, Any] | None:
        asked = [one for one in book.proposals if one.decision.verdict_digest == digest]
        if asked and asked[-1].over(now):
            return None if asked[-1].expired else _expiry(asked[-1])
        return None if digest in book.approved else {"act": "approved", "verdict": digest, "who": who}

    book = _append(ledger, name, entry)
    for one in book.proposals:
        if one.decision.verdict_digest == digest and one.expired:
            raise StateError(
                f"{one.in_words()} has expired: it was not approved in time (monitoring.policy.proposal_expires_days)",
                where=name,
                fix="while the damage lasts, a later window asks anew; or make a release: `trimtab release RECIPE`",
            )


def expire(ledger: Ledger, name: str, after_s: float, now: float | None = None) -> list[Proposal]:
    """Write down of every proposal that nobody approved in time that it has expired; those of now.

    Args:
        after_s: how long one waits that does not say itself until when, seconds. now: as for `approve`.
    """
    now = time.time() if now is None else now

    def entry(book: Book) -> dict[str, Any] | None:
        return next((_expiry(one) for one in book.waiting() if now >= one.ends(after_s)), None)

    before = read(ledger, name).expired
    after = _append(ledger, name, entry)
    return [one for one in after.proposals if one.expired and one.decision.verdict_digest not in before]


def _expiry(proposal: Proposal) -> dict[str, Any]:
    digest, action = proposal.decision.verdict_digest, proposal.decision.action
    return {"act": "expired", "verdict": digest, "action": action, "proposed": proposal.time, "run": proposal.run}


def _append(ledger: Ledger, name: str, entry_for: Callable[[Book], dict[str, Any] | None]) -> Book:
    """Add what `entry_for` makes of the state until it makes nothing; each time of the state as it is. The last one."""
    while True:
        entries = ledger.read(stream(name))
        entry = entry_for(fold(entries))
        if entry is None:
            return fold(entries)
        with suppress(Conflict):
            ledger.record(stream(name), entry, expect_seq=entries[-1].seq if entries else 0)


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
