"""Every figure of a regression over labelled rows: MAE, RMSE and R², each with its bootstrap interval."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from trimtab.bootstrap import LEAST_ROWS
from trimtab.monitoring.metrics import ALL, Figure
from trimtab.monitoring.performance import metric_interval
from trimtab.task import ERRORS, Metric

Array = np.ndarray
OF_NUMBERS: tuple[Metric, ...] = ("mae", "rmse", "r2")


def number_figures(output: Array, label: Array) -> tuple[Figure, ...]:
    """The figures of labelled rows; undefined below 20, and R² where the labels do not vary.

    Args:
        output, label: float (n, k), finite.
    """
    return tuple(_figure(metric, ALL, output, label) for metric in OF_NUMBERS)


def slice_numbers(metric: Metric, output: Array, label: Array, slices: Mapping[str, Array]) -> tuple[Figure, ...]:
    """One metric on each slice.

    Args:
        output, label: float (n, k), finite. slices: name → bool (n,).
    """
    return tuple(_figure(metric, f"slice {name}", output[mask], label[mask]) for name, mask in slices.items())


def _figure(metric: Metric, of: str, output: Array, label: Array) -> Figure:
    n = len(label)
    if n < LEAST_ROWS:
        return Figure(metric, of, None, f"{n} labelled rows, {LEAST_ROWS} are needed")
    if metric not in ERRORS and bool((np.ptp(label, axis=0) == 0).any()):
        return Figure(metric, of, None, f"{n} labels that do not vary")
    return Figure(metric, of, metric_interval(metric, output, label))
