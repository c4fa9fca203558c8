"""What is wrong with a column besides its distribution: absent, new, retyped, empty, not finite, unseen codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trimtab.monitoring.profile import ColumnProfile
from trimtab.monitoring.summary import OTHER, ColumnSummary

FindingCode = Literal[
    "missing",
    "not_journalled",
    "no_data",
    "not_finite",
    "new_category",
    "no_reference",
    "new_column",
    "retyped",
    "failed",
    "no_rule",
]
BAD_SHARE = 0.05


@dataclass(frozen=True)
class Finding:
    """One thing found in one column; `alert` says that it is a data error by itself."""

    code: FindingCode
    detail: str
    alert: bool


def missing(journalled: bool, renamed: str = "", failed: str = "") -> Finding:
    """The column is in the profile but not in the window.

    Args:
        journalled: whether it should be there.
        renamed: a column that is new, and looks like this one.
        failed: why the recipe's own descriptor gave nothing.
    """
    if not journalled:
        return Finding("not_journalled", "inputs are not journalled", False)
    if failed:
        return Finding("failed", failed, True)
    hint = f"; the new column {renamed} looks like it: renamed?" if renamed else ""
    return Finding("missing", f"the column is missing{hint}", True)


def new_column() -> Finding:
    """The column is in the window but not in the profile."""
    return Finding("new_column", "a new column: the reference does not have it, so it is not tested", False)


def retyped(column: ColumnProfile, dtype: str) -> Finding:
    """The column's values are no numbers any more."""
    return Finding("retyped", f"was {column.kind} in the reference and is {dtype} now", True)


def no_rule(name: str, what: str) -> Finding:
    """The recipe says something about this column that cannot be followed for this version."""
    return Finding("no_rule", f"monitoring.drift.columns.{name}: {what}", False)


def find(column: ColumnProfile, values: ColumnSummary, level: float) -> tuple[Finding, ...]:
    """Findings of a column that is there.

    Unusable values are a data error when they are significantly more than in the reference (one-sided Fisher exact test
    at `level`) and at least 5 points of share more; fewer are reported, and the finite values are judged. So one broken
    request cannot turn a window into a data error.

    Args:
        column: its profile.
        values: its values in the window, 1 or more.
        level: level of the test.
    """
    found: list[Finding] = []
    if not values.finite:
        found.append(Finding("no_data", f"no data: none of {values.rows} values is a finite number", True))
    elif values.finite < values.rows:
        found.append(_not_finite(column, values, level))
    if column.kind == "empty":
        found.append(Finding("no_reference", "the reference has no data in this column; it cannot be tested", False))
    if values.new:
        found.append(_new_categories(values))
    return tuple(found)


def _not_finite(column: ColumnProfile, values: ColumnSummary, level: float) -> Finding:
    infinite, empty, n = values.infinite, values.empty, values.rows
    bad = infinite + empty
    words = [f"{infinite} infinite"] * (infinite > 0) + [f"{empty} empty"] * (empty > 0)
    detail = f"{' and '.join(words)} of {n} values (reference: {column.not_finite} of {column.n})"
    excess = bad / n - column.not_finite / column.n
    return Finding("not_finite", detail, excess >= BAD_SHARE and _more(column, bad, n) <= level)


def _more(column: ColumnProfile, bad: int, n: int) -> float:
    from scipy.stats import fisher_exact  # here, because importing scipy.stats takes a second

    table = [[bad, n - bad], [column.not_finite, column.n - column.not_finite]]
    return float(fisher_exact(table, alternative="greater").pvalue)


def _new_categories(values: ColumnSummary) -> Finding:
    rows = (values.counts or {}).get(OTHER, 0)
    shown = ", ".join(text for text, _ in values.new) + (", …" if values.new_codes > len(values.new) else "")
    detail = f"{rows} of {values.finite} rows hold values never seen in the reference: {shown}"
    return Finding("new_category", detail, False)
