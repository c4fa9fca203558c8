"""Figures of the stated probabilities: ROC AUC of each class, log loss, and the calibration error.

The values are those of scikit-learn (a test holds them equal), whose checks of its arguments would take longer than the
whole verdict. ROC AUC: variance from the rows' placements
(DeLong et al. 1988, with midranks as Sun and Xu 2014 have them), which also gives that of the mean over classes, whose
AUCs are on the same rows. Calibration error: 15 bins of equal mass, as at the gate (see `verify.reliability`); it is
too high on few rows, so the interval reaches down by as much as chance alone would show.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trimtab.bins import bins_of
from trimtab.bootstrap import CORRECTED_ROWS, LEAST_ROWS, intervals
from trimtab.candidate import Interval
from trimtab.class_metrics import auc, row_losses
from trimtab.intervals import basic_interval, effective
from trimtab.monitoring.metrics import ALL, CONFIDENCE, MACRO, Figure, class_index, class_name

Array = np.ndarray
MOST_RANKED = 2_000_000  # rows times classes; of more, a sample of rows is ranked
LEAST_RANKED = 2000
DRAWS = 2000
SEED = 0
Z = 1.959963984540054  # 97.5 % point of the normal distribution


def ranked(output: Array, label: Array, by_class: range) -> list[Figure]:
    """ROC AUC, one class against the rest: the mean over the classes the labels hold, then of each class.

    Args:
        output: float (n, classes), probabilities, finite; n ≥ 1. label: int (n,). by_class: classes that are shown.
    """
    some = sample(len(label), max(LEAST_RANKED, MOST_RANKED // len(np.unique(label))))
    output, label = output[some], label[some]
    n, present = len(label), np.unique(label)
    shown, values, influence, least = [], [], np.zeros(n), n
    for index in np.union1d(present, np.array(by_class, np.int64)):
        positive = label == index
        count = int(positive.sum())
        if count in (0, n):
            none = "positives" if count == 0 else "negatives"
            shown.append(Figure("roc_auc", class_name(index), None, f"no {none} among {n} labels"))
            continue
        value, effect = auc(output[:, index], positive)
        few = min(count, n - count)
        values.append(value)
        influence += effect
        least = min(least, few)
        own = effective(value, _variance(effect), few, n, CONFIDENCE)
        shown.append(Figure("roc_auc", class_name(index), own))
    kept = [figure for figure in shown if class_index(figure.of) in by_class]
    if not values:
        return [Figure("roc_auc", MACRO, None, f"one class only among {n} labels"), *kept]
    mean = effective(float(np.mean(values)), _variance(influence / len(values)), least, n, CONFIDENCE)
    return [Figure("roc_auc", MACRO, mean), *kept]


def sample(rows: int, most: int) -> Array | slice:
    """Which rows are taken where there are more than `most`: an index of as many, drawn from a fixed seed; else all."""
    if rows <= most:
        return slice(None)
    return np.sort(np.random.default_rng(SEED).choice(rows, most, replace=False))


def _variance(influence: Array) -> float:
    return float(np.square(influence).sum() / len(influence) ** 2)


def log_loss(output: Array, label: Array) -> Figure:
    """Mean of -ln of the probability of the true class, with a bootstrap interval (normal beyond 2,000 rows).

    Args:
        output: float (n, classes), finite. label: int (n,).
    """
    n = len(output)
    if n < LEAST_ROWS:
        return Figure("log_loss", ALL, None, f"{n} labelled rows, {LEAST_ROWS} are needed")
    rows = row_losses(output, label)[:, None]
    value = float(rows.mean())
    if n > CORRECTED_ROWS:
        away = Z * float(rows.std(ddof=1)) / n**0.5
        return Figure("log_loss", ALL, Interval(value, max(value - away, 0.0), value + away, n, CONFIDENCE))
    _, (low,), (high,) = intervals(rows, lambda means: means[..., 0][None], CONFIDENCE)
    return Figure("log_loss", ALL, Interval(value, min(float(low), value), max(float(high), value), n, CONFIDENCE))


def calibration_error(confidence: Array, right: Array) -> Figure:
    """Mean distance of stated confidence and share of right answers over bins, weighted by rows.

    Args:
        confidence: float (n,), finite. right: bool (n,).
    """
    n = len(confidence)
    if n < LEAST_ROWS:
        return Figure("ece", ALL, None, f"{n} labelled rows, {LEAST_ROWS} are needed")
    place = bins_of(confidence)
    rows = np.bincount(place).astype(np.float64)
    gap = np.bincount(place, confidence - right) / rows
    by_chance = np.bincount(place, confidence * (1 - confidence)) / rows
    spread = np.sqrt(np.bincount(place, np.square(confidence - right - gap[place])) / np.square(rows))
    drawn = gap + spread * np.random.default_rng(SEED).standard_normal((DRAWS, len(rows)))
    value = float(np.abs(gap) @ rows / n)
    floor = float(np.sqrt(2 / np.pi * by_chance / rows) @ rows / n)
    found = basic_interval(value, np.abs(drawn) @ rows / n, n, CONFIDENCE, 0.0, 1.0)
    return Figure("ece", ALL, replace(found, low=max(found.low - floor, 0.0)))
