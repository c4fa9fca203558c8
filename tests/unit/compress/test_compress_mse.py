"""Ranges of least squared error: the error is what quantizing the values costs, and no other range costs less."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.compress.mse import mse_range, squared_error

BINS = 1024


def histogram(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As ONNX Runtime collects it: symmetric around 0."""
    most = np.abs(values).max()
    return np.histogram(values, BINS, range=(-most, most))


def rounded_error(values: np.ndarray, low: float, high: float) -> float:
    """Mean squared error of uint8 quantization, as a runtime computes it."""
    scale = (high - low) / 255
    zero = np.round(-low / scale)
    integers = np.clip(np.round(values / scale) + zero, 0, 255)
    return float(np.mean((values - (integers - zero) * scale) ** 2))


def found(values: np.ndarray) -> tuple[float, float]:
    return mse_range(*histogram(values), float(values.min()), float(values.max()))


@pytest.mark.parametrize("positive", [True, False])
def test_a_value_that_is_one_in_a_million_is_clipped_and_the_error_is_less_than_that_of_min_and_max(
    positive: bool,
) -> None:
    values = np.tile(np.random.default_rng(0).normal(size=10_000), 200)
    values[3] = 40.0
    values = np.abs(values) if positive else values
    low, high = found(values)
    assert high < 20
    assert rounded_error(values, low, high) < 0.5 * rounded_error(values, min(0.0, values.min()), 40.0)


def test_evenly_spread_values_keep_their_whole_range() -> None:
    values = np.random.default_rng(0).uniform(-1, 3, 50_000)
    np.testing.assert_allclose(found(values), (-1, 3), rtol=0.02)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), low=st.floats(-3, 0), high=st.floats(0.1, 3))
def test_the_error_from_a_histogram_is_that_of_its_values(seed: int, low: float, high: float) -> None:
    values = np.random.default_rng(seed).normal(size=20_000)
    counts, edges = histogram(values)
    # A zero that lies off a level by a fraction of a step does not matter: the values are continuous.
    assert squared_error(counts / counts.sum(), edges, low, high) == pytest.approx(
        rounded_error(values, low, high), rel=0.05
    )


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), shares=st.tuples(st.floats(0.02, 1), st.floats(0.02, 1)))
def test_no_narrower_range_has_a_much_smaller_error(seed: int, shares: tuple[float, float]) -> None:
    values = np.random.default_rng(seed).standard_t(3, 5_000) + 0.5
    low, high = found(values)
    other = rounded_error(values, values.min() * shares[0], values.max() * shares[1])
    assert rounded_error(values, low, high) <= 1.1 * other
    assert values.min() <= low <= 0 <= high <= values.max()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.zeros(10), (0.0, 0.0)),
        (np.full(10, 2.0), (0.0, 2.0)),
        (np.full(10, -2.0), (-2.0, 0.0)),
        (np.array([1e-30, 2e-30]), (0.0, 2e-30)),
    ],
    ids=["zeros", "one positive value", "one negative value", "tiny"],
)
def test_degenerate_values_have_a_range_that_holds_them_and_zero(
    values: np.ndarray, expected: tuple[float, float]
) -> None:
    np.testing.assert_allclose(found(values), expected, rtol=0.02)


def test_no_values_leave_the_ends_as_given() -> None:
    assert mse_range(np.zeros(8, np.int64), np.linspace(-1, 1, 9), -1.0, 1.0) == (-1.0, 1.0)


def test_a_step_as_wide_as_a_bin_is_not_taken_for_exact() -> None:
    # Each bin's middle is a level: an error that is sampled there would be 0.
    edges = np.arange(257) - 0.5
    assert squared_error(np.full(256, 1 / 256), edges, 0.0, 255.0) == pytest.approx(1 / 12, rel=0.01)
