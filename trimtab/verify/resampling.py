"""The bootstrap of rows: how far a figure would move if other rows of the same kind had been drawn (Efron 1979)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trimtab.candidate import Interval

Array = np.ndarray
RESAMPLES = 2000
CHUNK = 100  # resamples held at once


def weights(rows: int, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[Array]:
    """How often each row is drawn in each resample: float64 (at most CHUNK, rows), all resamples one after another.

    Two models that are given the same weights are compared on the same rows: the paired bootstrap.
    """
    random = np.random.default_rng(seed)
    for start in range(0, resamples, CHUNK):
        chosen = random.integers(rows, size=(min(CHUNK, resamples - start), rows))
        yield np.stack([np.bincount(one, minlength=rows) for one in chosen]).astype(np.float64)


def basic_interval(value: float, draws: Array, rows: int, confidence: float, low: float, high: float) -> Interval:
    """The basic (reflected) bootstrap interval of a figure.

    A figure that is too high on few rows is too high by as much again in its resamples; the reflection takes that out,
    where the plain percentiles would count it twice (Davison and Hinkley 1997, section 5.2). Where it then leaves the
    estimate outside, the interval is widened to hold it.

    Args:
        value: the figure on all rows. draws: the same on each resample, float (resamples,).
        rows: how many there are. low, high: the range that the figure can take.
    """
    tail = (1 - confidence) / 2
    least, most = np.quantile(draws, [tail, 1 - tail])
    lower, upper = min(2 * value - most, value), max(2 * value - least, value)
    return Interval(float(value), float(max(lower, low)), float(min(upper, high)), rows, confidence)
