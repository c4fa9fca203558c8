"""Bootstrap intervals of figures that are functions of means over rows, from a fixed seed.

SciPy's BCa bootstrap (Efron 1987, "Better Bootstrap Confidence Intervals"): rows are drawn with replacement and the
ends are corrected for bias and skew. The correction vanishes with the number of rows while its cost grows with the
square of it; beyond 2,000 rows it is left out (percentile interval). The same rows always give the same interval. A
bootstrap interval is approximate: its coverage tends to what it says, and is below it for few rows. Of paired RMSE with
50 and with 200 rows, 150 simulations each, 95 % intervals held the truth in 95 % (normal errors) and 91 % (Student's t
with 4 degrees of freedom).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np

Array = np.ndarray
RESAMPLES = 4000
CORRECTED_ROWS = 2000  # up to so many rows the interval is BCa
LEAST_ROWS = 20
AT_ONCE = 4_000_000  # numbers held by a batch of resamples
SEED = 0
LEAST_BEYOND = 20  # draws beyond an end: an interval corrected for many slices takes more draws


def draws_for(confidence: float) -> int:
    """How many draws an interval of this confidence takes."""
    return max(RESAMPLES, math.ceil(LEAST_BEYOND / ((1 - confidence) / 2)))


def intervals(rows: Array, figures: Callable[[Array], Array], confidence: float) -> tuple[Array, Array, Array]:
    """Each figure with both ends of its interval: three arrays (f,).

    Args:
        rows: float64 (n, m), n ≥ 2, what is averaged.
        figures: means (..., m) → (f, ...).
        confidence: of each interval, two-sided.
    """
    from scipy.stats import bootstrap  # here, because importing scipy.stats takes a second

    n, width = rows.shape

    def statistic(index: Array, axis: int = -1) -> Array:
        return figures(rows[index].mean(axis=-2))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a degenerate distribution (all draws alike), which is met below
        found = bootstrap(
            (np.arange(n),),
            statistic,
            n_resamples=draws_for(confidence),
            batch=max(1, AT_ONCE // (n * width)),
            vectorized=True,
            confidence_level=confidence,
            method="BCa" if n <= CORRECTED_ROWS else "percentile",
            rng=np.random.default_rng(SEED),
        )
    # Where all draws agree, BCa divides 0 by 0 and gives NaN; the percentiles then are that one value.
    tail = (1 - confidence) / 2
    plain = np.nanquantile(found.bootstrap_distribution, [tail, 1 - tail], axis=-1)
    low, high = found.confidence_interval
    ends = np.where(np.isfinite(low), low, plain[0]), np.where(np.isfinite(high), high, plain[1])
    return figures(rows.mean(axis=0)), *ends
