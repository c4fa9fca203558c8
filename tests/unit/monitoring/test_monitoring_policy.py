from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from trimtab.candidate import Interval
from trimtab.monitoring import Facts, Verdict, decide
from trimtab.monitoring.drift import ColumnResult
from trimtab.monitoring.performance import Performance
from trimtab.monitoring.verdict import VerdictKind

NOW = 10_000.0
FACTS = Facts(champion_version="3")


def verdict(kind: VerdictKind, lo: int = 0, version: str = "3") -> Verdict:
    accuracy = Interval(0.9, 0.85, 0.94, 200)
    moved = ColumnResult("input.mean", "numeric", "ks", 1e-9, 1e-3, True, 200, "median 0.5 → 0.6", ())
    return Verdict(
        kind=kind,
        lo=lo,
        hi=lo + 200,
        version=version,
        rows=200,
        columns=(moved,) if "drift" in kind else (),
        performance=Performance("ok", accuracy, accuracy, 0.85, 200, 200, 0),
        errors=0,
        other_versions=0,
        duplicates=0,
        unknown_labels=0,
        reasons=(),
    )


def decided(*kinds: VerdictKind, facts: Facts = FACTS, mode: str = "act") -> str:
    verdicts = [verdict(kind, lo=200 * i) for i, kind in enumerate(kinds)]
    return decide(verdicts, facts, mode, cooldown_s=300, now=NOW).action


@pytest.mark.parametrize(
    ("kind", "action"),
    [
        ("healthy", "none"),
        ("not_enough_rows", "none"),
        ("drift", "alert"),
        ("damage", "alert"),
        ("data_quality", "alert"),
        ("drift+damage", "retrain"),
        ("damage_estimated", "alert"),
    ],
)
def test_each_kind_has_its_reaction(kind: VerdictKind, action: str) -> None:
    assert decided(kind) == action


def test_damage_alone_retrains_when_the_window_before_shows_it_too() -> None:
    assert decided("damage", "damage") == "retrain"
    assert decided("drift+damage", "damage") == "retrain"
    assert decided("damage", "healthy", "damage") == "alert"


def test_damage_that_was_estimated_and_is_now_measured_retrains_at_once() -> None:
    measured = replace(verdict("damage"), revision=1, replaces="before", replaced_kind="damage_estimated")
    decision = decide([measured], FACTS, "act", 300, NOW)
    assert (decision.action, decision.verdict_digest) == ("retrain", measured.digest)
    fine = replace(measured, kind="healthy")
    assert decide([fine], FACTS, "act", 300, NOW).action == "none"


def test_late_labels_that_change_nothing_raise_no_second_alert() -> None:
    again = replace(verdict("drift"), revision=1, replaces="before", replaced_kind="drift")
    assert decide([again], FACTS, "act", 300, NOW).action == "none"
    still = replace(verdict("drift+damage"), revision=1, replaces="before", replaced_kind="drift+damage")
    assert decide([still], FACTS, "act", 300, NOW).action == "retrain"


def test_damage_of_an_older_version_or_of_the_same_rows_is_not_a_window_before() -> None:
    older = [verdict("damage", version="2"), verdict("damage", lo=200)]
    again = [verdict("damage"), replace(verdict("damage"), duplicates=1)]
    for verdicts in (older, again):
        assert decide(verdicts, FACTS, "act", 300, NOW).action == "alert"


def test_broken_data_never_retrain_whatever_came_before() -> None:
    assert decided("drift+damage", "damage", "data_quality") == "alert"


def test_a_verdict_with_a_reaction_gets_no_second_one() -> None:
    newest = verdict("drift+damage")
    facts = replace(FACTS, reacted=frozenset({newest.digest}))
    decision = decide([newest], facts, "act", 300, NOW)
    assert decision.action == "none"
    assert decision.verdict_digest == newest.digest


def test_a_verdict_about_a_version_that_no_longer_serves_starts_nothing() -> None:
    assert decided("drift+damage", facts=Facts(champion_version="4")) == "none"


@pytest.mark.parametrize("since", ["last_reaction_at", "promoted_at"])
def test_a_retrain_waits_for_the_cool_down_and_an_alert_does_not(since: str) -> None:
    assert decided("drift+damage", facts=replace(FACTS, **{since: NOW - 299})) == "none"
    assert decided("drift+damage", facts=replace(FACTS, **{since: NOW - 300})) == "retrain"
    assert decided("drift", facts=replace(FACTS, **{since: NOW - 1})) == "alert"


@pytest.mark.parametrize("kind", get_args(VerdictKind))
def test_observing_never_acts(kind: VerdictKind) -> None:
    assert decided(kind, mode="observe") in ("none", "alert")


def test_observing_says_what_would_have_been_done() -> None:
    decision = decide([verdict("drift+damage")], FACTS, "observe", 300, NOW)
    assert decision.action == "alert"
    assert "retrain" in decision.reason


def test_without_a_verdict_there_is_nothing_to_do() -> None:
    assert decide([], FACTS, "act", 300, NOW).action == "none"
