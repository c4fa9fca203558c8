"""How many more rows would decide what is undecided, if the rates stay as they are."""

from __future__ import annotations

import math

from scipy.stats import norm

from trimtab.candidate import Interval
from trimtab.verify.accuracy import Paired
from trimtab.verify.decision import ROUNDING
from trimtab.verify.numbers import PairedNumbers
from trimtab.verify.trinomial import score

EXACT_IS_WIDER = 1.05  # rows are planned with the score interval; the exact one needs a little more


def rows_for_difference(paired: Paired | PairedNumbers, limit: float) -> int | None:
    """More rows at the same rates until the lower end reaches the limit: the score statistic grows with √rows.

    Of numbers, the distance of the lower end from the estimate shrinks with it. None where no number of rows would do:
    the estimate itself is at or below the limit.
    """
    difference = paired.difference
    if isinstance(paired, PairedNumbers):
        room = difference.value - limit
        return _more_rows(difference.n, (difference.value - difference.low) / room) if room > ROUNDING else None
    z = float(norm.isf((1 - difference.confidence) / 2))
    statistic = float(score(paired.lost, paired.gained, difference.n, limit))
    return _more_rows(difference.n, z / statistic) if statistic > ROUNDING else None


def rows_for_share(share: Interval, limit: float) -> int | None:
    """The same until the upper end of a share is within the limit."""
    z = float(norm.isf((1 - share.confidence) / 2))
    if limit - share.value <= ROUNDING:
        return None
    statistic = (limit - share.value) / math.sqrt(limit * (1 - limit) / share.n) if limit < 1 else math.inf
    return _more_rows(share.n, z / statistic)


def rows_for_end(interval: Interval, limit: float) -> int | None:
    """The same of any mean: until the end of its interval on the limit's side is there; the width falls with √rows."""
    end = interval.low if interval.value > limit else interval.high
    distance = abs(interval.value - limit)
    return _more_rows(interval.n, abs(interval.value - end) / distance) if distance > ROUNDING else None


def more(rows: int | None) -> str:
    """The number in words, to be put behind "too few rows to say"."""
    return f"; about {rows:,} more rows would, at these rates" if rows is not None else "; no number of rows would"


def _more_rows(n: int, short_by: float) -> int:
    return max(1, math.ceil(EXACT_IS_WIDER * n * max(short_by, 1.0) ** 2) - n)
