"""The promotion log, folded: what serves, what is the way back, and what was cut short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trimtab.ledger import Entry, Ledger
from trimtab.registry.promotions import after, fold, read_log, served_at, way_back


def change(kind: str, version: int, before: int | None, act: str = "promoting") -> dict[str, Any]:
    return {"act": act, "kind": kind, "version": version, "from": before, "who": "w", "why": "y", "evidence": None}


def entries(*acts: dict[str, Any]) -> list[Entry]:
    return [Entry(seq, f"2026-01-{seq:02}", act, "") for seq, act in enumerate(acts, start=1)]


def test_an_empty_log_serves_nothing() -> None:
    log = fold("m", [])
    assert (log.head, log.champion, log.previous, log.pending, log.done) == (0, None, None, None, ())


def test_promote_three_then_seven_then_roll_back_serves_three_and_the_record_says_when() -> None:
    done = {"act": "promoted"}
    log = fold(
        "m",
        entries(change("promote", 3, None), done, change("promote", 7, 3), done, change("rollback", 3, 7), done),
    )
    assert (log.champion, log.previous) == (3, None)
    assert [(item.kind, item.version, item.previous) for item in log.done] == [
        ("promote", 3, None),
        ("promote", 7, 3),
        ("rollback", 3, 7),
    ]
    assert [served_at(log.done, f"2026-01-{day:02}") for day in (0, 1, 2, 3, 4, 5, 9)] == [None, 3, 3, 7, 7, 3, 3]


def test_an_intent_without_its_end_is_pending_and_does_not_serve() -> None:
    log = fold("m", entries(change("promote", 1, None), {"act": "promoted"}, change("promote", 2, 1)))
    assert log.champion == 1
    assert log.pending is not None
    assert (log.pending.version, log.pending.previous, log.head) == (2, 1, 3)


def test_an_undone_intent_leaves_no_trace_in_what_serves() -> None:
    log = fold("m", entries(change("promote", 2, None), {"act": "undone"}, {"act": "restored", "version": None}))
    assert (log.champion, log.pending, log.done, log.head) == (None, None, (), 3)


def test_a_promotion_made_outside_counts_and_is_marked() -> None:
    log = fold("m", entries(change("promote", 1, None, "outside"), change("promote", 2, 1, "outside")))
    assert (log.champion, log.previous) == (2, 1)
    assert all(item.outside for item in log.done)


def test_promoting_an_old_version_again_keeps_what_served_last_as_the_way_back() -> None:
    serving = after(after(after((), "promote", 1), "promote", 2), "promote", 1)
    assert serving == (1, 2, 1)
    assert way_back(serving) == 2
    assert after(serving, "rollback", 2) == (1, 2)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.data())
def test_a_rollback_always_ends_with_its_target_on_top_of_an_earlier_stack(
    versions: list[int], data: st.DataObject
) -> None:
    serving: tuple[int, ...] = ()
    for version in versions:
        serving = after(serving, "promote", version)
    target = data.draw(st.sampled_from(versions))
    rolled = after(serving, "rollback", target)
    assert rolled[-1] == target
    if target in serving[:-1]:
        assert rolled == serving[: len(rolled)]
        assert len(rolled) < len(serving)


def test_the_log_is_read_from_its_own_stream(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.record("promotions/m", change("promote", 4, None), 0)
    ledger.record("promotions/m", {"act": "promoted"}, 1)
    ledger.record("promotions/other", change("promote", 9, None), 0)
    assert read_log(ledger, "m").champion == 4
