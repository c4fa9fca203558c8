"""What counts as a reaction that did not help, and what makes the breaker forget."""

from __future__ import annotations

from policy_world import stream, verdict

from trimtab.monitoring.breaker import Reaction, failures, helped


def reaction(version: str | None, end: int = 0, **more: object) -> Reaction:
    fields = {"cause": "damage", "finished_at": 2.0, **more}
    return Reaction("digest", "retrain", 1.0, version=version, end=end, **fields)  # type: ignore[arg-type]


def test_a_reaction_that_changed_nothing_did_not_help() -> None:
    assert helped(reaction(None), []) is False
    assert helped(reaction(None, finished_at=None), []) is None


def test_one_that_changed_what_serves_is_judged_by_the_first_window_that_can_say() -> None:
    done = reaction("4")

    assert helped(done, stream("drift+damage", version="3")) is None
    assert helped(done, stream("healthy", version="4")) is True
    assert helped(done, stream("not_enough_rows", "drift+damage", "healthy", version="4")) is False
    costly = [verdict("service", version="4", breaches=("latency",))]
    assert helped(done, costly) is True
    assert helped(reaction("4", cause="latency"), costly) is False


def test_a_rollback_counts_neither_way_unless_it_failed() -> None:
    back = Reaction("digest", "rollback", 1.0, "errors", finished_at=2.0, version="2")

    assert helped(back, stream("damage", version="2")) is None
    assert failures([reaction(None), back, reaction(None)], [], 3, None) == 2


def test_failures_are_counted_back_to_the_last_one_that_helped() -> None:
    good, bad = reaction("4"), reaction(None)

    assert failures([bad, good, bad, bad], stream("healthy", version="4"), 3, None) == 2
    assert failures([bad, bad, good], stream("healthy", version="4"), 3, None) == 0


def test_a_healthy_stretch_after_it_makes_a_failure_forgotten() -> None:
    bad = reaction(None, end=200)

    assert failures([bad], stream("healthy", "healthy", "healthy"), 3, None) == 1  # the first is from before
    assert failures([bad], stream("damage", "healthy", "healthy", "healthy"), 3, None) == 0
    assert failures([bad], stream("damage", "healthy", "drift", "healthy", "healthy"), 3, None) == 1


def test_what_was_started_before_a_person_closed_it_is_forgotten() -> None:
    assert failures([reaction(None)] * 3, [], 3, closed_at=1.0) == 0
    assert failures([reaction(None)] * 3, [], 3, closed_at=0.5) == 3
