"""The ledger's reactions, folded: who waits, what was done, and entries from before causes were written down."""

from __future__ import annotations

from pathlib import Path

from trimtab import reactions
from trimtab.ledger import Ledger
from trimtab.monitoring.policy import Decision

DECISION = Decision("retrain", "because", "abc", "damage", "episode")


def ledger(folder: Path) -> Ledger:
    return Ledger(f"sqlite:///{folder / 'ledger.db'}")


def test_a_proposal_is_open_until_somebody_agrees_or_it_is_begun_otherwise(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    assert reactions.read(book, "demo").open_proposal() is None
    reactions.propose(book, "demo", DECISION, "run-1")
    waiting = reactions.read(book, "demo").open_proposal()
    assert waiting is not None
    assert (waiting.decision, waiting.run) == (DECISION, "run-1")
    reactions.approve(book, "demo", "abc", "ann")
    assert reactions.read(book, "demo").open_proposal() is None

    other = Decision("rollback", "because", "def", "errors", "other")
    reactions.propose(book, "demo", other, "run-2")
    assert reactions.read(book, "demo").open_proposal() is not None
    book.record(reactions.stream("demo"), {"act": "started", "verdict": "def", **other.to_json(), "run": "x"}, None)
    assert reactions.read(book, "demo").open_proposal() is None


def test_entries_from_before_there_were_causes_are_still_read(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    started = {"act": "started", "verdict": "abc", "action": "retrain", "reason": "r", "verdict_digest": "abc"}
    finished = {"act": "finished", "verdict": "abc", "run": "x", "outcome": "o", "release": {"version": 2}}
    for entry in ({**started, "run": "x"}, finished):
        book.record(reactions.stream("demo"), entry, None)

    [reaction] = reactions.read(book, "demo").reactions

    assert (reaction.action, reaction.version, reaction.cause, reaction.end) == ("retrain", "2", "", 0)
    assert reaction.finished_at is not None


def test_closing_the_breaker_is_remembered_with_its_time(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    reactions.close_breaker(book, "demo", "ann", "mended")

    closed = reactions.read(book, "demo").closed_at
    assert closed is not None
    assert closed == reactions.seconds(book.read(reactions.stream("demo"))[0].time)
