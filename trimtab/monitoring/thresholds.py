"""Where drift begins: the score that a window like the reference reaches with a stated probability, at its sizes.

Those of `anderson` and `ks` follow from formulas that are on the safe side for every distribution, ties or not. Of the
others the null distribution is drawn: both samples are put together and divided anew at random, into as many rows as
the reference and the window have. Under "both come from one distribution" every such division is as likely as the one
that was seen (Fisher's permutation argument), whatever the distribution: ties, outliers and codes that only the window
has are in it. A model of the tail (`tails`) spares the millions of draws that small levels would take.

Same samples, same threshold: the seed is fixed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trimtab.monitoring.scores import ORDERED, binned, cuts, heaviest, ordered_score, share_scores, shares, steps
from trimtab.monitoring.summary import ColumnSummary, proportional
from trimtab.monitoring.tails import Tail

Array = np.ndarray
SEED = 0
TABLES = 2000  # divisions of a table of counts: cheap
DIVISIONS = 400  # divisions of a sample: a pass over it each
AT_ONCE = 2_000_000  # numbers held by a batch of divisions
TIED = 0.3  # share of one value from which ties matter
QUADRATIC = ("psi", "chisquare")  # the others are like square roots of these, whose tails are near exponential
MOST_TABLE = 10**9  # numpy draws no division of more rows; a table of more is drawn in proportion


@dataclass(frozen=True)
class Threshold:
    """What a score is held against.

    Attributes:
        limit: drift from this score on.
        p: probability of a score like the one seen or higher on data like the reference; of `anderson` and `ks` an
            upper bound of it where it is small.
    """

    limit: float
    p: float


def effective_rows(reference: float, window: float) -> float:
    """Rows of one sample that is as uncertain as the difference of two: m n / (m + n)."""
    return reference * window / (reference + window)


def score_of(method: str, reference: ColumnSummary, window: ColumnSummary) -> float:
    """The score of a column; both sides have finite values.

    Raises:
        KeyError: the method is not one of `scores`.
    """
    if method in ORDERED:
        return ordered_score(method, _numbers(reference), _numbers(window))
    tables = shares(*_tables(reference, window))
    return float(share_scores(method, *tables))


def calibrate(method: str, reference: ColumnSummary, window: ColumnSummary, score: float, level: float) -> Threshold:
    """The threshold at a level, and the p-value of a score.

    Args:
        method: as in `scores`.
        reference, window: both with finite values; how many says how precise their scores are.
        score: the one that was seen.
        level: of this one test, 0 < level < 1.
    """
    rows = effective_rows(reference.finite, window.finite)
    if method == "anderson":
        _, then, now = steps(_numbers(reference), _numbers(window))
        tied = heaviest(then, now) > TIED
        return Threshold(anderson_limit(level, tied) / rows, anderson_p(score * rows, tied))
    if method == "ks":
        p = min(1.0, 2 * math.exp(-2 * rows * score**2))
        return Threshold(math.sqrt(math.log(2 / level) / (2 * rows)), p)
    if method == "wasserstein":
        draws = _wasserstein_draws(reference, window)
    else:
        draws = table_draws(method, *shares(*_true_tables(reference, window)))
    return from_draws(method, draws, score, level)


def anderson_p(x: float, tied: bool = False) -> float:
    """Probability that the Anderson–Darling statistic is x or more, from above where it is small.

    The statistic is Σ λ_j χ²_1. Without heavy ties λ_j = 1 / (j (j + 1)), whose tail √3 erfc(√x) (Zolotarev 1961) is
    just below the tabulated one; 2 erfc(√x) is above it from 5 % down (2.492: 0.0512, 3.857: 0.0110, 5.969: 0.0011;
    D'Agostino and Stephens 1986, table 4.2). With a value that most rows share, λ_2 can come near λ_1 = ½; as no λ is
    larger and their sum is 1 at most, the tail is heaviest for λ = ½, ½: exp(−x).

    Args:
        tied: one value has more than 30 % of the rows.
    """
    x = max(x, 0.0)
    return min(1.0, math.exp(-x) if tied else 2 * math.erfc(math.sqrt(x)))


def anderson_limit(level: float, tied: bool = False) -> float:
    """The x whose `anderson_p` is the level."""
    low, high = 0.0, 745.0  # beyond, exp and erfc are 0 in double precision
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if anderson_p(middle, tied) > level else (low, middle)
    return high


def table_draws(method: str, reference: Array, window: Array) -> Array:
    """Scores of both tables put together and divided anew, float64 (2000,).

    Args:
        reference, window: whole counts, float64 (c,).
    """
    pooled = (reference + window).astype(np.int64)
    ours = int(reference.sum())
    if pooled.sum() >= MOST_TABLE:
        part = (MOST_TABLE - 1) / pooled.sum()
        pooled, ours = (pooled * part).astype(np.int64), int(ours * part)
    rng = np.random.default_rng(SEED)
    drawn = rng.multivariate_hypergeometric(pooled, ours, size=TABLES, method="marginals")
    return share_scores(method, drawn.astype(np.float64), (pooled - drawn).astype(np.float64))


def from_draws(method: str, draws: Array, score: float, level: float) -> Threshold:
    """Threshold and p-value by the null distribution that these scores are drawn from."""
    power = 1 if method in QUADRATIC else 2
    tail = Tail.fit(np.maximum(draws, 0.0) ** power)
    limit = tail.threshold(level)
    return Threshold(limit if power == 1 else math.sqrt(limit), tail.p(score**power))


def _wasserstein_draws(reference: ColumnSummary, window: ColumnSummary) -> Array:
    then, now = _numbers(reference), _numbers(window)
    pooled = np.concatenate([then, now])
    order = np.argsort(pooled, kind="stable")
    values = pooled[order]
    whole = len(then) == reference.finite and len(now) == window.finite
    weight = np.where(order < len(then), reference.finite / len(then), window.finite / len(now))
    rng, batch = np.random.default_rng(SEED), max(1, AT_ONCE // len(values))
    draws = []
    for start in range(0, DIVISIONS, batch):
        count = min(batch, DIVISIONS - start)
        if whole:
            mine = _divisions(rng, len(then), len(values), count)
            draws.append(_distances(values, mine / len(then), (1 - mine) / len(now)))
        else:
            draws.append(_distances(values, *_resamples(rng, weight, reference.finite, window.finite, count)))
    return np.concatenate(draws)


def _divisions(rng: np.random.Generator, ours: int, total: int, count: int) -> Array:
    """Which of the pooled values fall to the reference, in `count` random divisions: float64 (count, total), 0 or 1."""
    mine = np.zeros((count, total))
    mine[:, :ours] = 1
    return rng.permuted(mine, axis=1)


def _resamples(rng: np.random.Generator, weight: Array, ours: int, theirs: int, count: int) -> tuple[Array, Array]:
    """Weights of the pooled values in `count` pairs of samples drawn from them; where a summary stands for more rows
    than it has values. A sample of many rows is its expectation and normal noise of the right covariance."""
    share = weight / weight.sum()
    ends = np.cumsum(share)
    sides = []
    for rows in (ours, theirs):
        if rows <= len(weight):
            place = np.searchsorted(ends, rng.random((count, rows)) * ends[-1], "right")
            drawn = np.stack([np.bincount(np.minimum(row, len(weight) - 1), minlength=len(weight)) for row in place])
            sides.append(drawn / rows)
        else:
            noise = rng.standard_normal((count, len(weight))) * np.sqrt(share / rows)
            sides.append(share + noise - share * noise.sum(axis=1, keepdims=True))
    return sides[0], sides[1]


def _distances(values: Array, then: Array, now: Array) -> Array:
    """Wasserstein distances of weights (count, u) on sorted values (u,), in standard deviations of the first."""
    gaps = np.diff(values)
    apart = np.abs(np.cumsum(then - now, axis=1))[:, :-1] @ gaps
    centred = values - values.mean()
    variance = then @ centred**2 - (then @ centred) ** 2
    result: Array = apart / np.maximum(np.sqrt(np.maximum(variance, 0.0)), 1e-3)
    return result


def _tables(reference: ColumnSummary, window: ColumnSummary) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Counts as the summaries hold them."""
    if reference.numbers is None:
        return reference.shown_counts, window.shown_counts
    inner = cuts(reference.numbers)
    return binned(reference.numbers, inner), binned(_numbers(window), inner)


def _true_tables(reference: ColumnSummary, window: ColumnSummary) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Counts of all rows; of bins, those of the summaries in proportion."""
    if reference.numbers is None:
        return reference.counts or {}, window.counts or {}
    then, now = _tables(reference, window)
    return proportional(then, reference.finite), proportional(now, window.finite)


def _numbers(summary: ColumnSummary) -> Array:
    if summary.numbers is None:
        raise ValueError("a column of categories has no order; give a method for categories")
    return summary.numbers
