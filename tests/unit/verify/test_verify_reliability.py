"""Calibration error: the worked example, what it cannot depend on, and intervals that hold what they say."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.errors import DataError
from trimtab.verify import reliability
from trimtab.verify.reliability import Trust, bins_of, compare_trust
from trimtab.verify.resampling import basic_interval, weights


def two_classes(stated: np.ndarray) -> np.ndarray:
    return np.stack([stated, 1 - stated], axis=1)


def made(rows: int, true_power: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of two classes, and labels drawn with stated**true_power: 1 is calibrated, 3 over-confident."""
    random = np.random.default_rng(seed)
    stated = random.uniform(0.5, 1, rows)
    return two_classes(stated), (random.random(rows) >= stated**true_power).astype(int)


def test_the_worked_example_of_four_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reliability, "BINS", 2)
    chances, labels = two_classes(np.array([0.9, 0.9, 0.6, 0.6])), np.array([0, 0, 1, 1])
    found = compare_trust(chances, chances, labels, 0.95)
    assert found.original.ece.value == pytest.approx(0.35)
    assert found.original.brier.value == pytest.approx((2 * 2 * 0.1**2 + 2 * 2 * 0.6**2) / 4)
    assert [(one.stated, one.right, one.rows) for one in found.original.bins] == [(0.6, 0.0, 2), (0.9, 1.0, 2)]


def test_bins_hold_as_many_rows_and_equal_probabilities_are_never_parted() -> None:
    assert np.bincount(bins_of(np.linspace(0.1, 1, 150))).tolist() == [10] * 15
    saturated = np.concatenate([np.full(90, 1.0), np.linspace(0.5, 0.9, 10)])
    assert len(np.unique(bins_of(saturated)[:90])) == 1


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(2, 120))
def test_the_order_of_rows_does_not_matter_and_a_model_is_not_shown_to_differ_from_itself(seed: int, rows: int) -> None:
    chances, labels = made(rows, 2.0, seed)
    order = np.random.default_rng(seed).permutation(rows)
    found, mixed = (compare_trust(c, c, y, 0.9) for c, y in ((chances, labels), (chances[order], labels[order])))
    assert found.original.ece.value == pytest.approx(mixed.original.ece.value)
    assert found.ece_rise.low <= found.ece_rise.value == 0 <= found.ece_rise.high
    assert 0 <= found.original.ece.low <= found.original.ece.value <= found.original.ece.high <= 1


def test_an_over_confident_candidate_is_seen_to_be_and_a_calibrated_one_is_near_its_floor() -> None:
    chances, labels = made(4000, 1.0, 0)
    sure = two_classes(np.clip(chances[:, 0] ** 0.3, 0, 1))
    found = compare_trust(chances, sure, labels, 0.95)
    assert found.ece_rise.low > 0.05
    assert "less calibrated" in found.sentence()
    assert found.original.ece.value < 2 * found.original.floor
    assert found.candidate.ece.value > 5 * found.candidate.floor
    assert found.candidate.brier.value > found.original.brier.value


def test_an_original_that_seems_worse_than_it_is_does_not_hide_a_rise() -> None:
    """Most intervals would end below the true rise of 0.0639 if they did not allow for that."""
    hidden = 0
    for seed in range(8):
        chances, labels = made(500, 1.0, seed)
        sure = np.maximum(chances[:, 0] ** 0.7, 0.5)
        hidden += compare_trust(chances, two_classes(sure), labels, 0.95).ece_rise.high < 0.0639
    assert hidden <= 1


def test_an_interval_turns_the_bias_of_the_resamples_round_and_keeps_the_estimate() -> None:
    draws = np.linspace(0.04, 0.08, 101)
    found = basic_interval(0.05, draws, 10, 0.9, 0.0, 1.0)
    assert (found.low, found.high) == (pytest.approx(0.022), pytest.approx(0.058))
    above = basic_interval(0.03, draws, 10, 0.9, 0.0, 1.0)
    assert (above.low, above.high) == (0.0, 0.03)


def test_resamples_draw_every_row_once_on_average_and_the_same_ones_each_time() -> None:
    first, again = (np.concatenate(list(weights(7, 250, seed=3))) for _ in range(2))
    assert first.shape == (250, 7)
    assert np.array_equal(first, again)
    assert set(first.sum(axis=1)) == {7.0}
    assert abs(first.mean(axis=0) - 1).max() < 0.2


def test_it_survives_json_and_refuses_other_rows() -> None:
    chances, labels = made(60, 1.0, 1)
    found = compare_trust(chances, chances, labels, 0.95)
    assert Trust.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found
    with pytest.raises(DataError, match="same rows"):
        compare_trust(chances, chances[:-1], labels, 0.95)
