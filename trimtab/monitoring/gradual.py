"""Gradual drift: windows gathered with fading weight, and tested together.

A shift too small for one window is seen in many. Each column keeps counts (in bins between quantiles of the reference,
or by category) to which a window's are added after the old ones were multiplied by 1 − λ, λ = 2 / (memory + 1): the
exponentially weighted moving average of control charts (Roberts 1959), of a whole distribution. Weighted rows are worth
(Σ w)² / Σ w² rows of one sample; with that size the counts are tested against the reference as a window's are.

All windows share one reference, whose own error does not average out; it is in the threshold, as m of m n / (m + n).
That is also why the windows' p-values are not multiplied (an e-process): given the reference they are not uniform, and
an unlucky reference would be found guilty in the end. On data like the reference the test calls a column drifted in at
most a share `alpha` / 4 of windows for the whole table, over references and windows; such alarms come in runs, because
neighbouring windows share most of what they are tested on.

The state is in the verdict, so that the next verdict can be made again from it to the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trimtab.monitoring.drift import Pair
from trimtab.monitoring.scores import anderson, binned, cuts, heaviest, share_scores, shares
from trimtab.monitoring.summary import ColumnSummary
from trimtab.monitoring.thresholds import TIED, anderson_p, effective_rows, from_draws, table_draws

Array = np.ndarray
DIGITS = 6  # significant ones of a count in the verdict: what is stored is what the next window goes on from
OF_CATEGORIES = "jensenshannon"


@dataclass(frozen=True)
class Trace:
    """What one column has gathered.

    Attributes:
        counts: bin or category → weighted rows.
        squares: Σ w² over the rows, w their weights.
        windows: how many windows are in it.
        p: probability of what was gathered or worse on data like the reference; None with fewer than two windows, and
            where the last window had nothing to add.
        drifted: p is at the level of this column or below.
    """

    name: str
    counts: Mapping[str, float]
    squares: float
    windows: int
    p: float | None
    drifted: bool

    @property
    def rows(self) -> float:
        """How many rows of one sample it is worth."""
        total = sum(self.counts.values())
        return total**2 / self.squares if self.squares else 0.0


def gather(pairs: Mapping[str, Pair], before: Sequence[Trace], memory: int, level: float) -> tuple[Trace, ...]:
    """The traces after a window.

    Args:
        pairs: the columns that could be tested in it, from `drift.compare`.
        before: the traces of the window before, of the same version; a column that this window lacks keeps its own.
        memory: windows it is gathered over, 1 or more.
        level: of one column's test.
    """
    old = {trace.name: trace for trace in before}
    keep = 1 - 2 / (memory + 1)
    kept = [replace(trace, p=None, drifted=False) for trace in before if trace.name not in pairs]
    return (*(_after(pair, old.get(name), keep, level) for name, pair in pairs.items()), *kept)


def _after(pair: Pair, old: Trace | None, keep: float, level: float) -> Trace:
    here = _counts(pair, pair.window)
    counts = dict(here)
    squares, windows = float(sum(here.values())), 1
    if old is not None:
        for name, n in old.counts.items():
            counts[name] = counts.get(name, 0.0) + keep * n
        squares, windows = squares + keep**2 * old.squares, old.windows + 1
    counts = {name: rounded(n) for name, n in sorted(counts.items())}
    gathered = Trace(pair.column.name, counts, rounded(squares), windows, None, False)
    if windows < 2:
        return gathered
    p = _p(pair, gathered, level)
    return Trace(gathered.name, counts, gathered.squares, windows, p, p <= level)


def _p(pair: Pair, gathered: Trace, level: float) -> float:
    reference = _counts(pair, pair.reference)
    if pair.reference.numbers is not None:
        names = sorted({*reference, *gathered.counts})
        then, now = (np.cumsum([side.get(name, 0.0) for name in names]) for side in (reference, gathered.counts))
        rows = effective_rows(pair.reference.finite, gathered.rows)
        sides = _distinct(then / then[-1], now / now[-1])
        return anderson_p(anderson(*sides) * rows, heaviest(*sides) > TIED)
    whole = {name: round(n) for name, n in reference.items()}
    total, worth = sum(gathered.counts.values()), gathered.rows
    now_whole = {name: round(n / total * worth) for name, n in gathered.counts.items()}
    if not sum(now_whole.values()):
        return 1.0
    tables = shares(whole, now_whole)
    score = float(share_scores(OF_CATEGORIES, *tables))
    return from_draws(OF_CATEGORIES, table_draws(OF_CATEGORIES, *tables), score, level).p


def _distinct(then: Array, now: Array) -> tuple[Array, Array]:
    """Without bins that neither side has rows in."""
    rise = np.diff(then + now, prepend=0.0) > 0
    return then[rise], now[rise]


def _counts(pair: Pair, side: ColumnSummary) -> dict[str, float]:
    """Rows by bin of the reference, or by category."""
    if pair.reference.numbers is None or side.numbers is None:
        return {name: float(n) for name, n in (side.counts or {}).items() if n}
    found = binned(side.numbers, cuts(pair.reference.numbers))
    return {name: n * side.finite / len(side.numbers) for name, n in found.items()}


def rounded(value: float) -> float:
    """To six significant digits."""
    return float(f"{value:.{DIGITS}g}")
