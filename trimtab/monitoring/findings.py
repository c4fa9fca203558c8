"""What is wrong with a column besides its distribution: absent, empty, not finite, codes never seen before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from trimtab.monitoring.profile import ColumnProfile, code

Array = np.ndarray
FindingCode = Literal["missing", "not_journalled", "no_data", "not_finite", "new_category", "no_reference"]
BAD_SHARE = 0.05


@dataclass(frozen=True)
class Finding:
    """One thing found in one column; `alert` says that it is a data error by itself."""

    code: FindingCode
    detail: str
    alert: bool


def missing(journalled: bool) -> Finding:
    """The column is in the profile but not in the window."""
    if journalled:
        return Finding("missing", "the column is missing", True)
    return Finding("not_journalled", "inputs are not journalled", False)


def find(column: ColumnProfile, values: Array, level: float) -> tuple[Finding, ...]:
    """Findings of a column that is there.

    Unusable values are a data error when they are significantly more than in the reference (one-sided Fisher exact test
    at `level`) and at least 5 points of share more; fewer are reported, and the finite values are judged. So one broken
    request cannot turn a window into a data error.

    Args:
        column: its profile.
        values: (n,) with n ≥ 1.
        level: level of the test.
    """
    numbers = np.asarray(values, np.float64)
    finite = np.isfinite(numbers)
    found: list[Finding] = []
    if not finite.any():
        found.append(Finding("no_data", f"no data: none of {len(numbers)} values is a finite number", True))
    elif not finite.all():
        found.append(_not_finite(column, numbers, level))
    if column.kind == "empty":
        found.append(Finding("no_reference", "the reference has no data in this column; it cannot be tested", False))
    if column.categories is not None:
        found.extend(_new_categories(column, numbers[finite]))
    return tuple(found)


def _not_finite(column: ColumnProfile, numbers: Array, level: float) -> Finding:
    from scipy.stats import fisher_exact  # here, because importing scipy.stats takes a second

    infinite, empty = int(np.isinf(numbers).sum()), int(np.isnan(numbers).sum())
    bad, n = infinite + empty, len(numbers)
    table = [[bad, n - bad], [column.not_finite, column.n - column.not_finite]]
    p = float(fisher_exact(table, alternative="greater").pvalue)
    excess = bad / n - column.not_finite / column.n
    words = [f"{infinite} infinite"] * (infinite > 0) + [f"{empty} empty"] * (empty > 0)
    detail = f"{' and '.join(words)} of {n} values (reference: {column.not_finite} of {column.n})"
    return Finding("not_finite", detail, p <= level and excess >= BAD_SHARE)


def _new_categories(column: ColumnProfile, finite: Array) -> list[Finding]:
    known = set(column.categories or ())
    distinct, counts = np.unique(finite, return_counts=True)
    new = [(code(value), int(count)) for value, count in zip(distinct, counts, strict=True) if code(value) not in known]
    if not new:
        return []
    rows = sum(count for _, count in new)
    shown = ", ".join(text for text, _ in new[:5]) + (", …" if len(new) > 5 else "")
    return [
        Finding("new_category", f"{rows} of {len(finite)} rows hold values never seen in the reference: {shown}", False)
    ]
