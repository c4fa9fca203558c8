"""A column is drawn once: half of the time of Evidently's drift report goes into figures that no page shows.

Its preset (0.7.23) draws every column in its table, and the metric of every column draws the same figure again for a
page of that metric alone, which nobody makes here. Without a figure of its own such a metric gets the small widget that
Evidently gives to those without one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def drawn_once() -> Iterator[None]:
    """Metrics of a column's drift draw nothing meanwhile; those of other threads of this process neither."""
    from evidently.metrics.column_statistics import ValueDriftCalculation

    drawing = ValueDriftCalculation._render
    ValueDriftCalculation._render = _nothing
    try:
        yield
    finally:
        ValueDriftCalculation._render = drawing


def _nothing(calculation: Any, drift: Any, options: Any, colours: Any) -> None:
    """No widget: Evidently makes its default one."""
