"""Does a figure grow steadily: the trend test for leaks, on a series that is neither normal nor independent.

Memory goes up and down with requests and garbage collection, so what is tested are the minima of blocks of time: a
leak lifts those too. Mann and Kendall's test (Mann 1945, Kendall 1975) says whether there is a trend, Theil and Sen's
slope (Sen 1968) with its interval says how much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
BLOCKS = 60
LEAST_BLOCKS = 12
LEVEL = 0.001
Z99 = 2.5758293035489004


@dataclass(frozen=True)
class Trend:
    """A trend over a series.

    Attributes:
        start: the figure at the beginning (median of the first quarter).
        slope, low, high: growth a second, with its 99 % interval.
        span_s: seconds from the first to the last block.
        p: two-sided, of Mann and Kendall's test.
    """

    start: float
    slope: float
    low: float
    high: float
    span_s: float
    p: float

    @property
    def surely_grew(self) -> float:
        """Growth over the span by the lower end of the slope's interval; 0 where the test sees no upward trend."""
        return max(0.0, self.low) * self.span_s if self.p < LEVEL else 0.0


def trend(times: Array, values: Array) -> Trend | None:
    """The trend of a series.

    Args:
        times: (n,) seconds, ascending. values: (n,) figures.

    Returns:
        None where there are fewer than 12 blocks of readings: nothing can be said.
    """
    when, low = _block_minima(np.asarray(times, np.float64), np.asarray(values, np.float64))
    if len(low) < LEAST_BLOCKS:
        return None
    first, second = np.triu_indices(len(low), 1)
    rises = low[second] - low[first]
    slopes = np.sort(rises / (when[second] - when[first]))
    deviation = math.sqrt(_variance(low))
    below, above = _ranks(len(slopes), Z99 * deviation)
    return Trend(
        start=float(np.median(low[: max(1, len(low) // 4)])),
        slope=float(np.median(slopes)),
        low=float(slopes[below]),
        high=float(slopes[above]),
        span_s=float(when[-1] - when[0]),
        p=_p(int(np.sign(rises).sum()), deviation),
    )


def _block_minima(times: Array, values: Array) -> tuple[Array, Array]:
    """Time and value of the smallest reading in each of at most 60 blocks of equally many readings."""
    size = max(1, math.ceil(len(values) / BLOCKS))
    places = [start + int(np.argmin(values[start : start + size])) for start in range(0, len(values), size)]
    return times[places], values[places]


def _variance(values: Array) -> float:
    """Of Mann and Kendall's statistic, corrected for ties."""
    n = len(values)
    _, ties = np.unique(values, return_counts=True)
    return float((n * (n - 1) * (2 * n + 5) - (ties * (ties - 1) * (2 * ties + 5)).sum()) / 18)


def _p(statistic: int, deviation: float) -> float:
    """Two-sided, by the normal approximation with continuity correction."""
    if deviation == 0:
        return 1.0
    z = (abs(statistic) - 1) / deviation if statistic else 0.0
    return math.erfc(max(0.0, z) / math.sqrt(2))


def _ranks(count: int, width: float) -> tuple[int, int]:
    """Places of the interval's ends among the sorted slopes (Hollander and Wolfe 1999, section 9.3)."""
    below = max(0, math.floor((count - width) / 2))
    above = min(count - 1, math.ceil((count + width) / 2))
    return below, above
