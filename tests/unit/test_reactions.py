"""The ledger's reactions, folded: who waits, what was done, and entries from before causes were written down."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from trimtab import reactions
from trimtab.errors import StateError
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


def test_what_nobody_approved_in_time_has_expired_and_approving_it_is_refused_by_name(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    reactions.propose(book, "demo", DECISION, "run-1", expires=1000.0)
    assert reactions.expire(book, "demo", 1.0, now=999.0) == []
    assert reactions.read(book, "demo").waiting()

    [expired] = reactions.expire(book, "demo", 1.0, now=1000.0)

    assert (expired.decision.verdict_digest, expired.run) == ("abc", "run-1")
    assert reactions.expire(book, "demo", 1.0, now=2000.0) == []
    assert [item.entry["act"] for item in book.read(reactions.stream("demo"))] == ["proposed", "expired"]
    with pytest.raises(StateError, match=r"the retrain proposed on .* for verdict abc has expired"):
        reactions.approve(book, "demo", "abc", "ann", now=1001.0)
    found = reactions.read(book, "demo")
    assert (found.expired, found.approved, found.waiting()) == ({"abc"}, frozenset(), [])


def test_an_approval_that_comes_too_late_is_refused_also_where_no_monitor_has_looked_since(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    reactions.propose(book, "demo", DECISION, "run-1", expires=1000.0)
    with pytest.raises(StateError, match="has expired"):
        reactions.approve(book, "demo", "abc", "ann", now=1000.0)
    assert reactions.read(book, "demo").expired == {"abc"}


def test_what_was_approved_in_time_or_begun_otherwise_does_not_expire(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    for digest in ("abc", "def"):
        decision = Decision("retrain", "because", digest, "damage", digest)
        reactions.propose(book, "demo", decision, "run", expires=1000.0)
    reactions.approve(book, "demo", "abc", "ann", now=999.0)
    started = {"act": "started", "verdict": "def", **DECISION.to_json(), "run": "x"}
    book.record(reactions.stream("demo"), started, None)

    assert reactions.expire(book, "demo", 1.0, now=5000.0) == []
    reactions.approve(book, "demo", "abc", "ann", now=5000.0)  # once is enough, and it was in time
    assert reactions.read(book, "demo").approved == {"abc"}


def test_a_proposal_from_before_there_was_an_end_waits_as_long_as_the_recipe_says(tmp_path: Path) -> None:
    asked = datetime(2026, 11, 30, tzinfo=UTC)
    book = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", clock=lambda: asked)
    reactions.propose(book, "demo", DECISION, "run-1")
    assert reactions.expire(book, "demo", 60.0, now=asked.timestamp() + 59) == []
    assert len(reactions.expire(book, "demo", 60.0, now=asked.timestamp() + 60)) == 1


def test_of_two_that_answer_at_once_the_first_counts(tmp_path: Path) -> None:
    """An approval recorded after the end, or an end after the approval, changes nothing any more."""
    book = ledger(tmp_path)
    stream = reactions.stream("demo")
    for digest, acts in {"abc": ("approved", "expired"), "def": ("expired", "approved")}.items():
        reactions.propose(book, "demo", Decision("retrain", "because", digest, "damage", digest), "run", 1000.0)
        for act in acts:
            book.record(stream, {"act": act, "verdict": digest, "who": "ann"}, None)
    found = reactions.read(book, "demo")
    assert (found.approved, found.expired) == ({"abc"}, {"def"})


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
