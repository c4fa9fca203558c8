"""The gate's lines on calibration and attributions: each can pass, fail and be open, and is silent without a limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from trimtab.candidate import Interval
from trimtab.errors import DataError
from trimtab.recipe.schema import Budget
from trimtab.verify.attribution.agreement import Agreement
from trimtab.verify.evidence import Evidence
from trimtab.verify.gate import Check, decide
from trimtab.verify.reliability import Reliability, Trust

Make = Callable[..., Evidence]


def rise(value: float, low: float, high: float, rows: int = 500, confidence: float = 0.95) -> Trust:
    model = Reliability(Interval(0.03, 0.02, 0.04, rows), 0.01, Interval(0.1, 0.09, 0.11, rows), ())
    other = Interval(value, low, high, rows, confidence)
    return Trust(model, replace(model, ece=Interval(0.03 + value, 0.0, 0.1, rows)), other, other)


def rank(value: float, low: float, rows: int = 16) -> Agreement:
    return Agreement("occlusion", 64, 7, Interval(value, low, 1.0, rows), Interval(0.8, 0.7, 0.9, rows), 0, ())


def line(evidence: Evidence, budget: Budget) -> tuple[Check, str, int | None]:
    decision = decide(evidence, budget, 0.95)
    words = ("calibration error", "attributions")
    return next(one for one in decision.checks if one.name.startswith(words)), decision.answer, decision.needed_rows


@pytest.mark.parametrize(
    ("trust", "answer"),
    [(rise(0.01, 0.0, 0.02), "pass"), (rise(0.01, 0.0, 0.03), "undecided"), (rise(0.021, 0.0, 0.03), "fail")],
)
def test_the_upper_end_of_the_rise_decides(make_evidence: Make, trust: Trust, answer: str) -> None:
    check, given, rows = line(replace(make_evidence(), trust=trust), Budget(max_calibration_rise=0.02))
    assert given == answer
    assert "0.0300 → " in check.reason
    # The interval reaches 0.02 beyond the estimate and may reach 0.01: four times the rows, and 5 % more.
    assert rows == (1600 if answer == "undecided" else None)


@pytest.mark.parametrize(
    ("found", "answer"), [(rank(0.95, 0.9), "pass"), (rank(0.95, 0.85), "undecided"), (rank(0.89, 0.8), "fail")]
)
def test_the_lower_end_of_the_mean_correlation_decides(make_evidence: Make, found: Agreement, answer: str) -> None:
    check, given, _ = line(replace(make_evidence(), attributions=found), Budget(min_attribution_correlation=0.9))
    assert given == answer
    assert ("raise verify.explain.samples, about 68 would do" in check.reason) is (answer == "undecided")


def test_of_no_row_that_can_be_compared_nothing_is_known(make_evidence: Make) -> None:
    nothing = replace(rank(0.0, -1.0, 0), without=16)
    evidence = replace(make_evidence(), attributions=nothing)
    assert line(evidence, Budget(min_attribution_correlation=0.9))[1] == "undecided"


def test_without_a_limit_they_are_shown_only(make_evidence: Make) -> None:
    evidence = replace(make_evidence(), trust=rise(0.5, 0.4, 0.6), attributions=rank(-0.5, -0.9))
    decision = decide(evidence, Budget(), 0.95)
    assert decision.answer == "pass"
    assert not [one for one in decision.checks if one.name.startswith(("calibration", "attributions"))]


def test_a_limit_on_what_was_not_measured_and_too_narrow_an_interval_are_refused(make_evidence: Make) -> None:
    for budget in (Budget(max_calibration_rise=0.1), Budget(min_attribution_correlation=0.1)):
        with pytest.raises(DataError, match=r"measured|taken"):
            decide(make_evidence(), budget, 0.95)
    with pytest.raises(DataError, match="cannot decide"):
        decide(replace(make_evidence(), trust=rise(0, 0, 0, confidence=0.9)), Budget(), 0.95)
