"""Whether a window's inputs lie where the release was verified: an estimate says nothing of rows that lie elsewhere.

Two ways to leave that support. Rows beyond the reference's range in some input column: how many such rows are to be
expected is read from the reference itself (a row that alone holds the smallest or largest value of a column would be
one, were it not part of it). And a drifted column whose rows have crowded into a corner of the reference: the rows of
the reference, weighted to look like the window, are then worth few (the effective sample size, Kong 1992).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trimtab.monitoring.columns import OUTPUT_COLUMNS, is_prediction
from trimtab.monitoring.drift import ColumnResult
from trimtab.monitoring.profile import ColumnProfile, Profile, code

Array = np.ndarray
BEYOND_SHARE = 0.1  # more rows beyond the range than expected, in points of share
LEAST_OVERLAP = 0.1  # of the reference's rows that must be left, by effective sample size
BINS = 20
NOT_COMPARED = ("empty", "datetime")  # time moves on by itself


def inputs_of(profile: Profile) -> list[ColumnProfile]:
    """Columns of the inputs that can be compared; those of the answers are what an estimate is made from."""
    return [
        column
        for column in profile.columns
        if column.name not in OUTPUT_COLUMNS and not is_prediction(column.name) and column.kind not in NOT_COMPARED
    ]


def drifted_inputs(profile: Profile, results: Sequence[ColumnResult]) -> list[str]:
    """Names of the input columns that drifted."""
    inputs = {column.name for column in inputs_of(profile)}
    return [result.name for result in results if result.drifted and result.name in inputs]


def outside(
    window: Mapping[str, Array],
    reference: Mapping[str, Array],
    profile: Profile,
    results: Sequence[ColumnResult],
    level: float,
) -> str | None:
    """How the inputs leave the reference's support, in words; None where they do not.

    Args:
        window, reference: watched columns of the window and of the release, name → (n,) and (m,).
        results: what was said of the window's columns. level: of the test on rows beyond the range.
    """
    here = [column for column in inputs_of(profile) if column.name in window]
    if not here:
        return None
    return _beyond(here, window, reference, level) or _crowded(here, window, reference, results)


def _beyond(
    here: Sequence[ColumnProfile], window: Mapping[str, Array], reference: Mapping[str, Array], level: float
) -> str | None:
    from scipy.stats import fisher_exact  # here, because importing scipy.stats takes a second

    marks = {column.name: _is_beyond(column, window[column.name]) for column in here}
    rows = np.logical_or.reduce(list(marks.values()))
    expected = np.logical_or.reduce([_is_extreme(column, reference[column.name]) for column in here])
    beyond, n, alone, m = int(rows.sum()), len(rows), int(expected.sum()), len(expected)
    p = float(fisher_exact([[beyond, n - beyond], [alone, m - alone]], alternative="greater").pvalue)
    if p > level or beyond / n - alone / m < BEYOND_SHARE:
        return None
    worst = max(marks, key=lambda name: int(marks[name].sum()))
    return f"{beyond} of {n} rows lie beyond the reference's range, most of them in {worst}"


def _is_beyond(column: ColumnProfile, values: Array) -> Array:
    numbers = np.asarray(values, np.float64)
    finite = np.isfinite(numbers)
    if column.categories is not None:
        known = np.isin(numbers, [value for value in np.unique(numbers[finite]) if code(value) in column.categories])
        return np.asarray(finite & ~known)
    assert column.low is not None
    assert column.high is not None
    return np.asarray(finite & ((numbers < column.low) | (numbers > column.high)))


def _is_extreme(column: ColumnProfile, values: Array) -> Array:
    """Rows of the reference that alone hold a category, or the smallest or largest value."""
    numbers = np.asarray(values, np.float64)
    finite = np.isfinite(numbers)
    points, count = np.unique(numbers[finite], return_counts=True)
    ends = points if column.categories is not None else points[[0, -1]]
    alone = ends[count == 1] if column.categories is not None else ends[count[[0, -1]] == 1]
    return np.asarray(np.isin(numbers, alone))


def _crowded(
    here: Sequence[ColumnProfile],
    window: Mapping[str, Array],
    reference: Mapping[str, Array],
    results: Sequence[ColumnResult],
) -> str | None:
    drifted = {result.name for result in results if result.drifted}
    for column in here:
        if column.name in drifted and column.kind == "numeric":
            left = overlap(window[column.name], reference[column.name])
            if left < LEAST_OVERLAP:
                return f"{column.name} has moved to where {left:.1%} of the reference's rows are"
    return None


def overlap(window: Array, reference: Array) -> float:
    """Share of the reference's rows that are left, by effective sample size, when they are weighted as the window is.

    An example to check by hand: a window that lies evenly in the lower half of the reference leaves one half; one that
    lies in a single one of twenty bins leaves a twentieth.

    Args:
        window, reference: float (n,) and (m,), with finite values in both.
    """
    now, then = (np.asarray(side, np.float64)[np.isfinite(side)] for side in (window, reference))
    edges = np.unique(np.quantile(then, np.arange(1, BINS) / BINS))
    shares = [np.bincount(np.searchsorted(edges, side), minlength=len(edges) + 1) / len(side) for side in (now, then)]
    held = shares[1] > 0
    weight = float((np.square(shares[0][held]) / shares[1][held]).sum())
    return 1 / weight if weight > 0 else 0.0
