"""Confidence-based performance estimation: what a window's answers say of their own accuracy, before labels come.

A calibrated probability of 0.9 means that nine of ten such answers are right; so the calibrated probabilities of a
window add up to the confusion matrix that is to be expected, and every metric that is a function of it follows. The
method is NannyML's (its documentation calls it CBPE); that differences of confidence tell differences of accuracy was
shown by Guillory et al. 2021. It assumes that the concept stays the same: that p(class | inputs) is what it was when
the map was fitted. Inputs may change within what was seen then, labels' meaning may not.

An example to check by hand: three answers with calibrated probabilities 0.9, 0.8 and 0.4 of the class they were given
are expected to be right 2.1 times, an accuracy of 0.7.

The interval is of the figure that these rows will show when their labels are there: labels are drawn from the
calibrated probabilities, and the map itself from those that the held-out rows could as well have given.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trimtab.candidate import Interval
from trimtab.intervals import spanned
from trimtab.monitoring.calibration import CalibrationMap
from trimtab.monitoring.confusion import rates
from trimtab.monitoring.metrics import BY_COUNTS, CONFIDENCE, MACRO, MICRO, class_index
from trimtab.monitoring.probabilities import sample

Array = np.ndarray
Wanted = Sequence[tuple[str, str]]
Counts = tuple[Array, Array, Array]  # hits, rows by true class, rows by predicted class: float (classes,)
DRAWS = 300
DRAWN_ROWS = 1000  # that labels are drawn for; of more rows the spread is scaled to their number
DRAWN_NUMBERS = 100_000  # rows times classes
AT_ONCE = 100_000  # rows
LEAST_EXPECTED = 0.5  # a class that less than half a row is expected of does not count in a mean over classes
SEED = 0


def estimable(metric: str) -> bool:
    """Whether a metric follows from the expected confusion matrix."""
    return metric == "accuracy" or metric in BY_COUNTS


def estimated(output: Array, predicted: Array, calibration: CalibrationMap, wanted: Wanted) -> list[Interval | None]:
    """What is to be expected of some figures; None where one is undefined.

    Args:
        output: float (n, classes), stated probabilities, finite; n ≥ 1. predicted: int (n,).
        calibration: of the release that answered. wanted: (metric, of) as in `metrics.Figure`; see `estimable`.
    """
    n, classes = output.shape
    value = _figures(_in_parts(output, predicted, calibration), n, wanted)
    some = sample(n, max(1, min(DRAWN_ROWS, DRAWN_NUMBERS // classes)))
    drawn = value + _spread(output[some], predicted[some], n, calibration, wanted)
    return [
        None if np.isnan(one) or np.isnan(draws).all() else spanned(float(one), np.clip(draws, 0, 1), n, CONFIDENCE)
        for one, draws in zip(value, drawn.T, strict=True)
    ]


def expected(calibrated: Array, predicted: Array) -> Counts:
    """The expected confusion matrix, as far as metrics need it.

    Args:
        calibrated: float (n, classes), rows that sum to 1. predicted: int (n,).
    """
    classes = calibrated.shape[1]
    right = calibrated[np.arange(len(predicted)), predicted]
    hits = np.bincount(predicted, right, minlength=classes)
    return hits, calibrated.sum(axis=0), np.bincount(predicted, minlength=classes).astype(np.float64)


def _in_parts(output: Array, predicted: Array, calibration: CalibrationMap) -> Counts:
    """`expected` over all rows, some at a time: probabilities in double precision would take twice the window."""
    parts = [
        expected(calibration.apply(output[start : start + AT_ONCE]), predicted[start : start + AT_ONCE])
        for start in range(0, len(output), AT_ONCE)
    ]
    hits, of_true, of_predicted = (np.sum(side, axis=0) for side in zip(*parts, strict=True))
    return hits, of_true, of_predicted


def _spread(output: Array, predicted: Array, n: int, calibration: CalibrationMap, wanted: Wanted) -> Array:
    """How far the figures of drawn labels lie from the expected ones, (DRAWS, figures)."""
    random = np.random.default_rng(SEED)
    rows, classes = output.shape
    fewer = (rows / n) ** 0.5
    centre = _figures(expected(calibration.apply(output), predicted), rows, wanted)
    away = np.empty((DRAWS, len(wanted)))
    for draw in range(DRAWS):
        chances = calibration.drawn(output, random)
        mean = _figures(expected(chances, predicted), rows, wanted)
        below = np.cumsum(chances, axis=1) < random.random((rows, 1))
        label = np.minimum(below.sum(axis=1), classes - 1)
        hits = np.bincount(label[label == predicted], minlength=classes)
        of_true, of_predicted = (np.bincount(side, minlength=classes) for side in (label, predicted))
        seen = _figures((hits, of_true, of_predicted), rows, wanted)
        away[draw] = (mean - centre) + (seen - mean) * fewer
    return away


def _figures(counts: Counts, n: int, wanted: Wanted) -> Array:
    return np.array([_figure(counts, n, metric, of) for metric, of in wanted])


def _figure(counts: Counts, n: int, metric: str, of: str) -> float:
    hits, of_true, of_predicted = counts
    if metric == "accuracy" or of == MICRO:
        return float(hits.sum() / n)
    each = rates(metric, hits, of_true, of_predicted, n)
    if of == MACRO:
        present = of_true >= LEAST_EXPECTED
        return float(each[present].mean()) if present.any() else float("nan")
    index = class_index(of)
    return float(each[index]) if index < len(each) else float("nan")
