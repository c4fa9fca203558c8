"""The gate's check of `budget.max_slice_drop`: no class and no slice of the recipe's may lose more than that.

A slice passes when its whole interval is at or above the margin, and fails when its whole interval is below it. Between
the two it is undecided, also where the estimate itself is beyond the margin: slices are small, and the largest of many
drops is beyond a margin by chance more easily than a mean is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from trimtab.verify.decision import ROUNDING, Check
from trimtab.verify.planning import more, rows_for_difference
from trimtab.verify.slices import Slice, Slices, corrected

NAME = "slices"
NAMED = 3  # slices named in the reason; all are in the report's table


def check_slices(slices: Slices, max_slice_drop: float) -> tuple[Check, int | None]:
    """Whether every slice keeps to the margin.

    Returns:
        The check, which shows the slice that decides; and, where it is undecided, how many more rows of the whole split
        would do if rates and shares of the slices stay as they are (None: no number would).
    """
    limit = -max_slice_drop
    failing = [one for one in slices.measured if _keeps(one, limit) is False]
    doubtful = sorted((one for one in slices.measured if _keeps(one, limit) is None), key=_low)
    if failing:
        failing.sort(key=lambda one: one.paired.difference.high)
        reason = f"{_listed(failing)}: the whole interval is below {slices.worst.paired.bare(limit)}"
        return _check(failing[0], False, limit, reason, slices), None
    if doubtful or slices.unmeasured:
        first = doubtful[0] if doubtful else min(slices.measured, key=_low)
        return _check(first, None, limit, _too_few(doubtful, slices, limit), slices), _rows(doubtful, slices, limit)
    worst = min(slices.measured, key=_low)
    reason = f"every whole interval is {slices.worst.paired.within(limit)}, the lowest is of {worst}"
    return _check(worst, True, limit, reason, slices), None


def _check(one: Slice, passed: bool | None, limit: float, reason: str, slices: Slices) -> Check:
    number = len(slices.measured)
    each = corrected(slices.confidence, number)
    note = (
        f"{number} slices, each interval at {100 * each:.5g} % so that all hold together at "
        f"{100 * slices.confidence:.4g} % (Bonferroni): "
    )
    return Check(NAME, limit, one.paired.difference.value, one.paired.difference, passed, note + reason)


def _keeps(one: Slice, limit: float) -> bool | None:
    difference = one.paired.difference
    if difference.low >= limit - ROUNDING:
        return True
    return False if difference.high < limit - ROUNDING else None


def _too_few(doubtful: Sequence[Slice], slices: Slices, limit: float) -> str:
    parts = [f"{one}{more(rows_for_difference(one.paired, limit))}" for one in doubtful[:NAMED]]
    if len(doubtful) > NAMED:
        parts.append(f"and {len(doubtful) - NAMED} more")
    if doubtful:
        parts[0] = f"too few rows to say whether all is {slices.worst.paired.within(limit)}: {parts[0]}"
    if slices.unmeasured:
        names = ", ".join(f'"{name}"' for name in slices.unmeasured[:NAMED])
        rest = len(slices.unmeasured) - NAMED
        parts.append(f"no row of {names}" + (f" and {rest} more" if rest > 0 else "") + " is in the split")
    return "; ".join(parts)


def _rows(doubtful: Sequence[Slice], slices: Slices, limit: float) -> int | None:
    """More rows of the whole split: as many as the slice that needs most, by its share of the split."""
    needed = [(rows_for_difference(one.paired, limit), one.paired.difference.n) for one in doubtful]
    known = [math.ceil(rows * slices.rows / n) for rows, n in needed if rows is not None]
    return None if slices.unmeasured or len(known) < len(needed) else max(known)


def _listed(several: Sequence[Slice]) -> str:
    names = "; ".join(str(one) for one in several[:NAMED])
    return names + (f"; and {len(several) - NAMED} more" if len(several) > NAMED else "")


def _low(one: Slice) -> float:
    return one.paired.difference.low
