"""Intervals that more than one stage needs: closed forms, their limits, and coverage by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from trimtab.errors import DataError
from trimtab.intervals import basic_interval, effective, exact, spanned


def test_the_exact_interval_is_clopper_pearson_and_closed_at_its_ends() -> None:
    found = exact(18, 20, 0.95)
    assert found.low == pytest.approx(beta.ppf(0.025, 18, 3))
    assert found.high == pytest.approx(beta.ppf(0.975, 19, 2))
    assert exact(9, 9, 0.95).high == 1.0
    assert exact(0, 9, 0.95).low == 0.0
    with pytest.raises(DataError, match="no proportion"):
        exact(3, 2, 0.95)


@settings(max_examples=50, deadline=None)
@given(hits=st.integers(1, 199), n=st.just(200))
def test_at_a_proportions_own_variance_the_effective_interval_is_the_exact_one(hits: int, n: int) -> None:
    value = hits / n
    found = effective(value, value * (1 - value) / n, 1, n, 0.95)
    plain = exact(hits, n, 0.95)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_figure_without_spread_is_as_uncertain_as_the_rows_that_speak_for_it(value: float) -> None:
    found = effective(value, 0.0, 30, 500, 0.95)
    assert found.high - found.low == pytest.approx(1 - 0.025 ** (1 / 30))
    assert found.n == 500


def test_the_reflected_interval_takes_out_what_resamples_add_and_spanned_holds_its_value() -> None:
    draws = np.linspace(0.2, 0.4, 1001)  # of a figure of 0.2 that resamples make too high
    found = basic_interval(0.2, draws, 50, 0.95, 0.0, 1.0)
    assert (found.low, found.high) == pytest.approx((0.005, 0.2))
    held = spanned(0.5, np.append(draws, np.nan), 50, 0.95)
    assert held.high == 0.5
    assert held.low == pytest.approx(0.205)
