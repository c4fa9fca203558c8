"""Verdicts that replace each other: what stands, in which order they are told, and what re-opens one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trimtab.candidate import Interval
from trimtab.monitoring.estimate import Estimate
from trimtab.monitoring.label_arrival import LabelArrival
from trimtab.monitoring.performance import Performance
from trimtab.monitoring.revisions import (
    candidates,
    estimate_errors,
    grown,
    replaced_by,
    standing,
    told,
    with_successors,
)
from trimtab.monitoring.verdict import Verdict, VerdictKind


def verdict(kind: VerdictKind, lo: int = 0) -> Verdict:
    accuracy = Interval(0.9, 0.85, 0.94, 200)
    return Verdict(
        kind=kind,
        lo=lo,
        hi=lo + 200,
        version="3",
        rows=200,
        columns=(),
        performance=Performance("ok", accuracy, accuracy, 0.85, 200, 200, 0),
        errors=0,
        other_versions=0,
        duplicates=0,
        unknown_labels=0,
        reasons=(),
    )


def again(before: Verdict, kind: VerdictKind) -> Verdict:
    return replace(before, kind=kind, revision=before.revision + 1, replaces=before.digest, replaced_kind=before.kind)


def test_the_last_verdict_on_a_window_stands() -> None:
    first, second = verdict("healthy"), verdict("drift", lo=200)
    late = again(first, "damage")
    assert standing([first, second, late]) == [late, second]
    assert replaced_by(standing([first, second]), (0, 200)) == first
    assert replaced_by([first], (0, 199)) is None


def test_news_is_told_last_and_a_quiet_revision_beside_what_it_replaces() -> None:
    first, second = verdict("damage_estimated"), verdict("drift+damage", lo=200)
    bad, good, same = again(first, "damage"), again(first, "healthy"), again(first, "damage_estimated")
    assert told([first, second, bad]) == [first, second, bad]
    assert told([first, second, good]) == [first, good, second]
    assert told([first, second, same]) == [first, same, second]
    alone = replace(good, replaces="of a ledger that was cut")
    assert told([second, alone]) == [second, alone]


def test_a_reaction_to_a_verdict_is_one_to_all_that_replaced_it() -> None:
    first = verdict("drift+damage")
    second = again(first, "damage")
    third = again(second, "drift+damage")
    assert with_successors({first.digest}, [first, second, third]) == {first.digest, second.digest, third.digest}
    assert with_successors({second.digest}, [first, second, third]) == {second.digest, third.digest}


@pytest.mark.parametrize(
    ("before", "now", "opens"),
    [(0, 9, False), (0, 10, True), (4, 8, False), (9, 10, True), (10, 19, False), (10, 20, True), (30, 30, False)],
)
def test_labels_re_open_a_verdict_when_they_are_enough_or_twice_as_many(before: int, now: int, opens: bool) -> None:
    assert grown(before, now, 10) == opens


def test_only_the_last_windows_without_a_reaction_that_know_their_labels_can_be_opened() -> None:
    arrived = LabelArrival(3, None, None, {}, 0)
    windows = [replace(verdict("healthy", lo=200 * i), labels=arrived) for i in range(4)]
    windows[2] = replace(windows[2], labels=None)  # recorded before labels were
    reacted = frozenset({windows[3].digest})
    assert candidates(windows, 3, reacted) == [windows[1]]
    assert candidates(windows, 0, reacted) == []


def test_the_error_of_estimates_is_that_of_earlier_windows_whose_labels_came() -> None:
    estimate = Estimate("ok", "", "accuracy", "all", "CBPE", Interval(0.95, 0.9, 1.0, 200))
    past = [replace(verdict("healthy", lo=200 * i), estimated=estimate) for i in range(3)]
    unlabelled = replace(past[0], lo=900, performance=replace(past[0].performance, answer="too_few_labels"))
    elsewhere = replace(past[0], lo=1100, estimated=replace(estimate, supported=False))
    other = replace(past[0], lo=1300, version="2")
    metric = replace(past[0], lo=1500, estimated=replace(estimate, metric="f1", of="macro"))
    every = [*past, unlabelled, elsewhere, other, metric]
    assert estimate_errors(every, "3", (400, 600), "accuracy", "all") == pytest.approx([0.05, 0.05])
    assert (
        len(estimate_errors([replace(past[0], lo=i, hi=i + 1) for i in range(50)], "3", (0, 0), "accuracy", "all"))
        == 20
    )
