"""Intervals that verification and monitoring share: exact ones of shares, and the reflected one of a bootstrap."""

from __future__ import annotations

import numpy as np

from trimtab.candidate import Interval
from trimtab.errors import DataError

Array = np.ndarray


def exact(hits: int, n: int, confidence: float) -> Interval:
    """A proportion with its Clopper-Pearson (1934) interval: coverage is at least `confidence` whatever the truth.

    Args:
        hits: number of successes, 0 … n.
        n: number of trials, at least 1.
        confidence: e.g. 0.95; each end misses with a chance of at most (1 - confidence) / 2.

    Raises:
        DataError: no rows, or more hits than rows.
    """
    if n < 1 or not 0 <= hits <= n:
        raise DataError(f"{hits} hits in {n} rows is no proportion", fix="give at least one row")
    return Interval(hits / n, *_ends(hits, n, confidence), n, confidence)


def effective(value: float, variance: float, least: float, n: int, confidence: float) -> Interval:
    """A figure between 0 and 1 that is no plain proportion, from its variance (Korn and Graubard 1998).

    Clopper and Pearson's interval at the number of independent rows that would give a proportion this variance:
    value (1 - value) / variance. It stays within 0 and 1, and is wide where few rows speak.

    Args:
        variance: of the estimate. least: rows that are counted where it is 0 (a figure that is 0 or 1), above 0.
        n: rows it was computed on.
    """
    spread = value * (1 - value)
    size = spread / variance if variance > 0 and spread > 0 else least
    return Interval(value, *_ends(value * size, size, confidence), n, confidence)


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


def spanned(value: float, draws: Array, rows: int, confidence: float) -> Interval:
    """The interval between the percentiles of draws, widened to hold the value; draws that are NaN do not count.

    Args:
        draws: float (m,), one of them finite at least.
    """
    tail = (1 - confidence) / 2
    least, most = np.nanquantile(draws, [tail, 1 - tail])
    return Interval(float(value), float(min(least, value)), float(max(most, value)), rows, confidence)


def _ends(hits: float, n: float, confidence: float) -> tuple[float, float]:
    # Quantiles of beta distributions; scipy.stats has them too, but takes a second to import and a millisecond a call.
    from scipy.special import betainccinv, betaincinv

    tail = (1 - confidence) / 2
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits > 0 else 0.0
    high = float(betainccinv(hits + 1, n - hits, tail)) if hits < n else 1.0
    return low, high
