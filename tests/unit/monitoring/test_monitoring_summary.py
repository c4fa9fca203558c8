from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.monitoring.profile import ColumnProfile, describe
from trimtab.monitoring.scores import ordered_score
from trimtab.monitoring.summary import MOST, OTHER, expanded, numbers_of, proportional, summarize

Array = np.ndarray
NUMERIC = ColumnProfile("x", "numeric", 1, 0, 0.0, 1.0)
CODES = ColumnProfile("x", "categorical", 1, 0, 0.0, 3.0, ("0", "1", "2", "3"))


def test_a_small_column_is_kept_whole_and_what_is_not_finite_is_counted_apart() -> None:
    found = summarize(NUMERIC, np.array([3.0, np.nan, -np.inf, 1.0, np.inf, 2.0, np.nan]))
    assert found is not None
    assert (found.rows, found.infinite, found.empty, found.finite) == (7, 2, 2, 3)
    assert found.numbers.tolist() == [1, 2, 3]
    assert (found.low, found.high) == (1.0, 3.0)


@pytest.mark.parametrize("draw", ["normal", "ties", "heavy", "zeros"])
def test_the_distance_of_a_summary_to_its_column_is_within_the_stated_bound(draw: str) -> None:
    rng = np.random.default_rng(0)
    rows = {
        "normal": rng.normal(size=50_000),
        "ties": rng.poisson(3, 50_000).astype(float),
        "heavy": rng.pareto(1.1, 50_000),
        "zeros": np.where(rng.random(50_000) < 0.7, 0.0, rng.normal(size=50_000)),
    }[draw]
    found = summarize(NUMERIC, rows, most=1000)
    assert found is not None
    k = len(found.numbers)
    assert k == 1000 if draw in ("normal", "heavy") else 1000 - 1000 // 64 < k <= 1000
    assert ordered_score("ks", np.sort(rows), found.numbers) <= 1 / (2 * k) + 1 / 50_000 + 1e-12


def test_null_shares_are_kept_in_a_summary_and_in_what_is_shown_of_it() -> None:
    rows = np.where(np.arange(100_000) % 4 == 0, np.nan, 1.0 * np.arange(100_000))
    found = summarize(NUMERIC, rows, most=1000)
    assert found is not None
    shown = expanded(found, np.random.default_rng(0))
    assert len(shown) == 1000
    assert np.isnan(shown).sum() == 250
    assert not (np.diff(shown[np.isfinite(shown)]) > 0).all(), "shuffled"


def test_a_rare_value_among_nulls_is_not_lost() -> None:
    rows = np.full(100_000, np.nan)
    rows[7] = 5.0
    found = summarize(NUMERIC, rows, most=1000)
    assert found is not None
    assert found.numbers.tolist() == [5.0]


def test_unseen_codes_are_one_category_and_the_first_are_named() -> None:
    found = summarize(CODES, np.r_[np.repeat([0.0, 1.0], [60, 30]), np.arange(100.0, 110)])
    assert found is not None
    assert found.counts == {"0": 60, "1": 30, OTHER: 10}
    assert found.new_codes == 10
    assert found.new[0] == ("100", 1)
    assert len(found.new) == 5


def test_categories_of_a_large_column_keep_their_shares() -> None:
    rows = np.repeat(np.arange(4.0), [70_001, 20_000, 9_998, 1])
    found = summarize(CODES, rows, most=1000)
    assert found is not None
    assert found.shown_counts == {"0": 700, "1": 200, "2": 100}
    shown = expanded(found, np.random.default_rng(0))
    assert {name: int((shown == name).sum()) for name in "012"} == found.shown_counts


@pytest.mark.parametrize("seed", range(5))
def test_shares_of_few_categories_are_nearer_than_a_rounded_total_would_bring_them(seed: int) -> None:
    counts = np.random.default_rng(seed).multinomial(1_000_000, [0.31, 0.33, 0.36])
    found = summarize(CODES, np.repeat(np.arange(3.0), counts))
    assert found is not None
    shown = np.array([found.shown_counts[name] for name in "012"])
    assert 8192 - 128 < shown.sum() <= 8192
    assert np.abs(shown / shown.sum() - counts / 1e6).max() < 1.5e-5  # half a row of 8,192 is 6e-5


@settings(max_examples=50)
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=30).filter(any), st.integers(1, 10_000))
def test_proportional_counts_add_up_and_are_off_by_less_than_one(counts: list[int], total: int) -> None:
    given_counts = {str(index): n for index, n in enumerate(counts)}
    found = proportional(given_counts, total)
    assert sum(found.values()) == total
    for name, n in given_counts.items():
        assert abs(found.get(name, 0) - n / sum(counts) * total) < 1 + 1e-6


def test_what_is_text_or_a_date_is_no_number_and_nulls_are_nan() -> None:
    assert numbers_of(np.array(["1", "2"])) is None
    assert numbers_of(np.array(["2026-01-01"], "M8[s]")) is None
    assert numbers_of(np.array([1.0, "a", None], object)) is None
    assert np.isnan(numbers_of(np.array([None] * 5, object))).all()
    assert numbers_of(np.array([True, None], object)).tolist()[0] == 1.0
    assert numbers_of(np.array([True, False])).tolist() == [1, 0]


def test_integers_and_booleans_are_summed_up_as_they_are() -> None:
    column = describe("x", np.array([0, 1, 1, 0]))
    found = summarize(column, np.array([True, False, True]))
    assert found is not None
    assert found.counts == {"0": 1, "1": 2}


def test_a_value_that_many_rows_share_keeps_its_share() -> None:
    rng = np.random.default_rng(0)
    values = rng.gamma(2.0, size=300_000)
    values[: round(0.350067 * len(values))] = 0.0  # 2,867.75 of 8,192
    values[-10_000:] = 3.0
    kept = summarize(NUMERIC, values).numbers
    assert MOST - MOST // 64 < len(kept) <= MOST
    for shared in (0.0, 3.0):
        assert abs(np.mean(kept == shared) - np.mean(values == shared)) < 1e-5
