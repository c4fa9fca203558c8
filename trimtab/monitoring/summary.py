"""A column as a summary: what is tested and shown of it, whatever the number of rows.

Up to 8,192 rows a summary holds every value. Beyond, a numeric column is 8,192 of its quantiles and a column of
categories is counts in proportion (a little fewer than 8,192, where that comes nearer), null shares kept. Where many
rows share a value, it is a little fewer quantiles too: as many as keep the shares of such values. k quantiles of h
finite values differ from them by at most 1/(2k) + 1/h in the distribution function (sup norm), and with them the
Kolmogorov–Smirnov distance; k rounded shares of C categories differ by at most C/(4k) in total variation.
`docs/monitoring.md` has the bounds of the other scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from trimtab.monitoring.profile import ColumnProfile, code

Array = np.ndarray
MOST = 8192
OTHER = "other"
NAMED_NEW = 5
SHARED = 0.01  # of the rows, from which a value's share is kept


@dataclass(frozen=True)
class ColumnSummary:
    """One column of a window, or of the reference.

    Attributes:
        rows: how many values it had, usable or not.
        infinite, empty: of them infinities, and NaN or null.
        low, high: range of the finite ones; None without any.
        numbers: float64 (k,), sorted: the finite values, or quantiles of them; None unless the column is numeric.
        counts: category → rows; None unless the column has categories. Categories never seen in the reference are
            one, "other".
        new: the first of those, with their rows; `new_codes` says how many there are.
        most: how many values it is summed up in.
    """

    rows: int
    infinite: int
    empty: int
    low: float | None = None
    high: float | None = None
    numbers: Array | None = None
    counts: Mapping[str, int] | None = None
    new: tuple[tuple[str, int], ...] = ()
    new_codes: int = 0
    most: int = MOST
    _shown: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        counts = {} if self.counts is None else {name: n for name, n in sorted(self.counts.items()) if n}
        object.__setattr__(self, "_shown", _closest(counts, self.shown_finite))

    @property
    def finite(self) -> int:
        """Usable values."""
        return self.rows - self.infinite - self.empty

    @property
    def shown_finite(self) -> int:
        """How many of the summary's rows stand for usable values; the others stand for those that are not."""
        return _shown_finite(self.rows, self.finite, self.most)

    @property
    def shown_empty(self) -> int:
        """How many of the summary's rows stand for values that are not usable."""
        return min(self.rows, self.most) - self.shown_finite

    @property
    def shown_counts(self) -> Mapping[str, int]:
        """Counts of categories as they are tested and shown: in proportion to the real ones, none of 0 rows."""
        return self._shown


def numbers_of(values: Array) -> Array | None:
    """The values as numbers: as they are, or float64 with NaN for null; None when they are text or dates."""
    given = np.asarray(values)
    if given.dtype.kind in "fiu":
        return given
    if given.dtype.kind == "b":
        return given.astype(np.int8)
    if given.dtype.kind != "O":
        return None
    listed = given.tolist()
    if any(not (value is None or isinstance(value, (bool, int, float, np.number))) for value in listed):
        return None
    return np.array([np.nan if value is None else value for value in listed], np.float64)


def summarize(column: ColumnProfile, values: Array, most: int = MOST) -> ColumnSummary | None:
    """The summary of a column; None when its values are no numbers.

    Args:
        column: says of which kind it is.
        values: (n,); sorted once, in its own precision.
        most: how many values the summary may hold.
    """
    given = numbers_of(values)
    if given is None:
        return None
    ordered = np.sort(given)
    first, last = 0, len(ordered)
    infinite = empty = 0
    if ordered.dtype.kind == "f":  # NaN is sorted behind +infinity
        first = int(np.searchsorted(ordered, -np.inf, "right"))
        last = int(np.searchsorted(ordered, np.inf, "left"))
        empty = len(ordered) - int(np.searchsorted(ordered, np.inf, "right"))
        infinite = len(ordered) - (last - first) - empty
    finite = ordered[first:last]
    if not len(finite):
        return ColumnSummary(len(ordered), infinite, empty, most=most)
    low, high = float(finite[0]), float(finite[-1])
    if column.kind == "numeric":
        kept = _quantiles(finite, _shown_finite(len(ordered), len(finite), most))
        return ColumnSummary(len(ordered), infinite, empty, low, high, numbers=kept, most=most)
    if column.categories is None:
        return ColumnSummary(len(ordered), infinite, empty, low, high, most=most)
    counts, new, new_codes = _count(column, finite)
    return ColumnSummary(len(ordered), infinite, empty, low, high, None, counts, new, new_codes, most)


def proportional(counts: Mapping[str, int], total: int) -> dict[str, int]:
    """Counts that add up to `total` in proportion to these (largest remainders; the first of equals wins)."""
    names, given = list(counts), np.array(list(counts.values()), np.float64)
    if not names or given.sum() == total:
        return dict(counts)
    exact = given / given.sum() * total
    whole = np.floor(exact).astype(np.int64)
    order = np.argsort(-(exact - whole), kind="stable")
    whole[order[: total - int(whole.sum())]] += 1
    return {name: int(n) for name, n in zip(names, whole, strict=True) if n}


def _closest(counts: Mapping[str, int], most: int) -> Mapping[str, int]:
    """Counts in proportion to these that add up to `most` or a little less, down to 1/64 less: those with the shares
    nearest to the real ones. Of few categories that is an order of magnitude nearer than with a total that is given."""
    if sum(counts.values()) <= most:
        return counts
    real = np.array(list(counts.values()), np.float64)
    real /= real.sum()

    def off(shown: Mapping[str, int]) -> float:
        given = np.array([shown.get(name, 0) for name in counts], np.float64)
        return float(((given / given.sum() - real) ** 2 / real).sum())

    totals = range(most, most - max(1, most // 64), -1)
    return min((proportional(counts, total) for total in totals), key=off)


def expanded(summary: ColumnSummary, rng: np.random.Generator) -> Array:
    """The summary as a column of a data frame, in random order: float64 with NaN, or category text with None."""
    empty = summary.shown_empty
    if summary.numbers is not None:
        whole = np.concatenate([summary.numbers, np.full(empty, np.nan)])
    else:
        names = [name for name, n in summary.shown_counts.items() for _ in range(n)]
        whole = np.array([*names, *[None] * empty], object)
    return rng.permutation(whole)


def _shown_finite(rows: int, finite: int, most: int) -> int:
    if rows <= most or finite == 0:
        return finite
    return max(1, round(most * finite / rows))


def _quantiles(finite: Array, k: int) -> Array:
    h = len(finite)
    if h <= k:
        return finite.astype(np.float64)
    found = _spaced(finite, k)
    fewer = _fitting(finite, found)
    return (found if fewer == k else _spaced(finite, fewer)).astype(np.float64)


def _spaced(finite: Array, k: int) -> Array:
    taken: Array = finite[((np.arange(k) + 0.5) * len(finite) / k).astype(np.int64)]
    return taken


def _fitting(finite: Array, quantiles: Array) -> int:
    """How many quantiles to take: as many as these or a little less, down to 1/64 less, so that values which many rows
    share have the shares nearest to the real ones.

    Of h sorted values, k quantiles take those at floor((i + ½) h / k), so a value at the places a ≤ j < b is taken
    ⌈b k / h − ½⌉ − ⌈a k / h − ½⌉ times.
    """
    h, k = len(finite), len(quantiles)
    values, times = np.unique(quantiles, return_counts=True)
    shared = values[times > SHARED * k]
    if not len(shared):
        return k
    first, last = (np.searchsorted(finite, shared, side) for side in ("left", "right"))
    totals = np.arange(k, k - max(1, k // 64), -1)[:, None]
    taken = np.ceil(last * totals / h - 0.5) - np.ceil(first * totals / h - 0.5)
    off = ((taken / totals - (last - first) / h) ** 2).sum(axis=1)
    return int(totals[int(off.argmin()), 0])


def _count(column: ColumnProfile, finite: Array) -> tuple[dict[str, int], tuple[tuple[str, int], ...], int]:
    starts = np.concatenate([[0], np.flatnonzero(np.diff(finite)) + 1])
    distinct, rows = finite[starts].astype(np.float64), np.diff(np.append(starts, len(finite)))
    known = np.isin(distinct, [float(text) for text in column.categories or ()])
    counts = {code(value): int(n) for value, n in zip(distinct[known], rows[known], strict=True)}
    unknown = int(rows[~known].sum())
    if unknown:
        counts[OTHER] = unknown
    first = zip(distinct[~known][:NAMED_NEW], rows[~known][:NAMED_NEW], strict=True)
    return counts, tuple((code(value), int(n)) for value, n in first), int((~known).sum())
