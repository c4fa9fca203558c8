"""What a release says of its trial, and what a promotion rule finds missing, in figures."""

from __future__ import annotations

from typing import Any

import pytest

from trimtab.errors import StateError
from trimtab.journal.outcomes import Outcome, Tally, summed
from trimtab.recipe.schema import Serving
from trimtab.serving.evidence import Rule, missing
from trimtab.serving.trial import Trial


def tally(agreeing: int = 0, other: int = 0, failed: int = 0, canaries: int = 0, ratio: float | None = 1.0) -> Tally:
    shadow = Outcome("shadow", "1", "2", "r", 1, rows=1, ratio=ratio)
    outcomes = [
        *[Outcome("shadow", "1", "2", "r", 1, rows=1, agreed=1, ratio=ratio)] * agreeing,
        *[shadow] * other,
        *[Outcome("shadow", "1", "2", "r", 1, rows=1, error="RuntimeError")] * failed,
        *[Outcome("canary", "1", "2", "r", 1, rows=1)] * canaries,
    ]
    return summed(outcomes).get(("1", "2"), Tally("1", "2"))


def test_a_release_without_the_keys_is_not_tried_and_asks_for_nothing() -> None:
    for section in ({}, {"canary": None, "shadow": None, "promotion": None}, Serving().model_dump(mode="json")):
        assert Trial.from_json(section) == Trial()
        assert not Trial.from_json(section).answers
        assert Rule.from_json(section) is None


def test_what_the_recipe_says_arrives_in_the_service() -> None:
    given: dict[str, Any] = {
        "canary": {"percent": 10},
        "shadow": {"percent": 25, "tolerance": 0.2},
        "promotion": {"min_requests": 50, "min_agreement": 0.9},
    }
    section = Serving.model_validate(given).model_dump(mode="json")
    assert Trial.from_json(section) == Trial(10, True, 25, 0.2)
    assert Rule.from_json(section) == Rule(50, 0.9, None, 0.01)


@pytest.mark.parametrize(
    "section",
    [{"canary": {"percent": 101}}, {"canary": {"percent": "many"}}, {"canary": 5}, {"shadow": {"percent": -1}},
     {"canary": {"percent": float("nan")}}, {"shadow": {"tolerance": 0}}],
)  # fmt: skip
def test_a_trial_that_cannot_be_read_is_refused(section: dict[str, Any]) -> None:
    with pytest.raises(StateError, match=r"release\.json: serving"):
        Trial.from_json(section)


@pytest.mark.parametrize("promotion", [{}, {"min_requests": "many"}, 7, {"min_requests": 5, "min_agreement": "all"}])
def test_a_rule_that_cannot_be_read_lets_nothing_through(promotion: Any) -> None:
    with pytest.raises(StateError, match="promotion is not readable"):
        Rule.from_json({"promotion": promotion})


FULL = Rule(min_requests=10, min_agreement=0.9, max_latency_ratio=1.5, max_error_rate=0.1)


@pytest.mark.parametrize(
    ("rule", "shown", "told"),
    [
        (FULL, tally(agreeing=9, other=1), []),
        (FULL, tally(agreeing=9), ["9 shadow requests, 10 are needed"]),
        (FULL, tally(agreeing=9, canaries=50), ["9 shadow requests, 10 are needed"]),
        (FULL, tally(agreeing=8, other=2), ["decided 80.0% of 10 rows as the champion did, 90.0% are needed"]),
        (FULL, tally(agreeing=10, ratio=1.6), ["takes 1.60 times as long as the champion, 1.50 times are allowed"]),
        (FULL, tally(agreeing=10, ratio=None), ["its time was not compared, 1.50 times are allowed"]),
        (FULL, tally(agreeing=10, failed=2), ["16.7% of its 12 requests failed (2 RuntimeError), 10.0% may"]),
        (Rule(10), tally(canaries=10), []),
        (Rule(10), tally(canaries=6, agreeing=3), ["9 requests, 10 are needed"]),
        (Rule(1, max_error_rate=0.0), tally(failed=1), ["100.0% of its 1 requests failed (1 RuntimeError), 0.0% may"]),
    ],
)
def test_what_is_missing_is_told_in_figures(rule: Rule, shown: Tally, told: list[str]) -> None:
    assert missing(rule, shown) == told


def test_nothing_shown_is_everything_missing() -> None:
    assert missing(FULL, tally()) == [
        "0 shadow requests, 10 are needed",
        "no row was compared, 90.0% are needed",
        "its time was not compared, 1.50 times are allowed",
    ]
