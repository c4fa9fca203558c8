from __future__ import annotations

import numpy as np
import pytest

from trimtab.monitoring.findings import find
from trimtab.monitoring.profile import ColumnProfile
from trimtab.monitoring.summary import summarize


@pytest.mark.parametrize(
    ("reference_rows", "rows", "bad", "alert"),
    [
        (300, 200, 40, True),
        (1000, 10_000, 300, False),  # significant, but 3 points of share only
        (30, 30, 2, False),  # 7 points of share, but no more than chance
    ],
)
def test_a_data_error_is_significant_and_large(reference_rows: int, rows: int, bad: int, alert: bool) -> None:
    column = ColumnProfile("x", "numeric", reference_rows, 0, 0.0, 1.0)
    values = np.r_[np.full(bad, np.nan), np.full(rows - bad, 0.5)]
    (finding,) = find(column, summarize(column, values), level=0.001)
    assert (finding.code, finding.alert) == ("not_finite", alert)
    assert f"{bad} empty of {rows} values (reference: 0 of {reference_rows})" in finding.detail


def test_infinite_and_empty_values_are_counted_apart() -> None:
    column = ColumnProfile("x", "numeric", 100, 0, 0.0, 1.0)
    values = np.array([1.0, np.inf, -np.inf, np.nan])
    (finding,) = find(column, summarize(column, values), level=0.001)
    assert finding.detail.startswith("2 infinite and 1 empty of 4 values")
