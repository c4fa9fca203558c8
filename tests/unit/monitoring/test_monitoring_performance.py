from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta

from trimtab.candidate import Interval
from trimtab.monitoring.performance import Performance, exact_accuracy, measure

VERIFIED = Interval(0.95, 0.92, 0.97, 360)


def scored(right: int, wrong: int, unlabelled: int = 0, min_labels: int = 50) -> Performance:
    predicted = np.zeros(right + wrong + unlabelled, np.int64)
    label = np.array([0] * right + [1] * wrong + [-1] * unlabelled)
    return measure(predicted, label, 2, VERIFIED, 0.05, min_labels)


def test_the_interval_is_clopper_pearson() -> None:
    got = exact_accuracy(np.zeros(20), np.array([0] * 18 + [1] * 2))
    assert got.low == pytest.approx(beta.ppf(0.025, 18, 3))
    assert got.high == pytest.approx(beta.ppf(0.975, 19, 2))


def test_all_right_and_all_wrong_have_one_closed_end() -> None:
    assert exact_accuracy(np.zeros(9), np.zeros(9)).high == 1.0
    assert exact_accuracy(np.zeros(9), np.ones(9)).low == 0.0


@pytest.mark.parametrize(
    ("right", "wrong", "answer"),
    [(195, 5, "ok"), (140, 60, "damage"), (178, 22, "undecided"), (30, 10, "too_few_labels")],
)
def test_damage_needs_the_whole_interval_below_the_limit(right: int, wrong: int, answer: str) -> None:
    assert scored(right, wrong).answer == answer


def test_unlabelled_rows_are_never_scored_and_the_coverage_is_shown() -> None:
    got = scored(right=95, wrong=5, unlabelled=100)
    assert got.accuracy is not None
    assert (got.accuracy.value, got.accuracy.n) == (0.95, 100)
    assert (got.labelled, got.rows, got.coverage) == (100, 200, 0.5)


def test_without_labels_accuracy_is_undefined_and_not_damage() -> None:
    got = scored(0, 0, unlabelled=10)
    assert got.accuracy is None
    assert got.answer == "too_few_labels"
    assert got.coverage == 0.0


def test_labels_of_one_class_only_are_scored_as_they_are() -> None:
    predicted = np.array([0] * 60 + [1] * 40)
    got = measure(predicted, np.zeros(100, np.int64), 2, VERIFIED, 0.05, 50)
    assert got.accuracy is not None
    assert got.accuracy.value == 0.6


def test_a_label_that_is_no_class_is_counted_apart() -> None:
    label = np.array([0] * 60 + [7] * 5)
    got = measure(np.zeros(65, np.int64), label, 2, VERIFIED, 0.05, 50)
    assert (got.labelled, got.invalid_labels) == (60, 5)
    assert got.accuracy is not None
    assert got.accuracy.value == 1.0


def test_a_model_as_good_as_verified_is_rarely_called_damaged() -> None:
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(100):
        wrong = int(rng.binomial(100, 0.05))
        alarms += scored(100 - wrong, wrong).answer == "damage"
    assert alarms <= 2
