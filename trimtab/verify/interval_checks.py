"""The gate's checks of calibration and attributions, each by the end of its interval that is nearer to the limit.

Both pass when the whole interval keeps to the limit, fail when the estimate does not, and are undecided between.
"""

from __future__ import annotations

from collections.abc import Iterator

from trimtab.candidate import Interval
from trimtab.errors import DataError
from trimtab.verify.attribution.agreement import Agreement
from trimtab.verify.decision import ROUNDING, Check
from trimtab.verify.planning import more, rows_for_end
from trimtab.verify.reliability import Trust
from trimtab.verify.words import signed


def check_trust(trust: Trust | None, limit: float | None) -> Iterator[tuple[Check, int | None]]:
    """`budget.max_calibration_rise`, with the rows of the gate that are missing where it is undecided.

    Raises:
        DataError: it was not measured.
    """
    if limit is None:
        return
    if trust is None:
        raise DataError("no calibration error was measured", where="budget.max_calibration_rise", fix="measure it")
    rise = trust.ece_rise
    passed = _keeps(-rise.value, -rise.high, -limit)
    rows = rows_for_end(rise, limit) if passed is None else None
    figures = (
        f"{trust.original.ece.value:.4f} → {trust.candidate.ece.value:.4f}, a rise of {signed(rise.value)} "
        f"({_interval(rise)}; {rise.n} rows); at most {limit:g} is allowed"
    )
    reason = figures if passed is not None else f"{figures}: too few rows to say{more(rows)}"
    yield Check("calibration error, against the original", limit, rise.value, rise, passed, reason), rows


def check_attributions(found: Agreement | None, limit: float | None) -> Iterator[tuple[Check, int | None]]:
    """`budget.min_attribution_correlation`; what is missing are samples, so no rows of the gate are asked for.

    Raises:
        DataError: it was not measured.
    """
    if limit is None:
        return
    if found is None:
        where = "budget.min_attribution_correlation"
        raise DataError("no attributions were taken", where=where, fix="set verify.explain")
    rank = found.correlation
    passed = _keeps(rank.value, rank.low, limit) if rank.n > 1 else None  # of no row to compare nothing is known
    figures = f"mean rank correlation {rank.value:.3f} ({_interval(rank)}; {rank.n} rows); at least {limit:g} is asked"
    if passed is None:
        samples = rows_for_end(rank, limit) if rank.n > 1 else None
        asked = "" if samples is None else f", about {found.samples + samples:,} would do"
        figures += f": too few to say; raise verify.explain.samples{asked}"
    yield Check(f"attributions, against the original ({found.method})", limit, rank.value, rank, passed, figures), 0


def _keeps(value: float, end: float, limit: float) -> bool | None:
    """Whether an interval is at or above a limit, by its lower end and its estimate."""
    if end >= limit - ROUNDING:
        return True
    return None if value >= limit - ROUNDING else False


def _interval(one: Interval) -> str:
    return f"{100 * one.confidence:.4g} % interval {signed(one.low)} to {signed(one.high)}"
