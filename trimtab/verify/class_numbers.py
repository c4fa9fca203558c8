"""Two classifiers on the same rows by macro F1, ROC AUC or log loss, with paired bootstrap intervals of the difference.

*Log loss* is a mean over rows, and *ROC AUC* to first order the mean of what each row adds to it (DeLong et al. 1988):
both models' rows are drawn together (`bootstrap`, BCa). *F1* depends on the decisions alone, so what is drawn is the
table of true class, the original's decision and the candidate's: the Bayesian bootstrap (Rubin 1981), with half a row
that only the original decides right and half a row that only the candidate does (Jeffreys), each spread over the
classes as the labels are. Without these, two models that agree on all of 30 rows would be known to agree on all.

These intervals are approximate.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_array

from trimtab.bootstrap import LEAST_ROWS, SEED, draws_for, intervals
from trimtab.candidate import Interval
from trimtab.class_metrics import class_figure, mean_auc, one_class, row_losses
from trimtab.errors import DataError
from trimtab.task import Metric
from trimtab.verify.numbers import PairedNumbers

Array = np.ndarray
CHUNK = 2_000_000  # numbers drawn at once
HALF = 0.5
Ends = tuple[Array, Array, Array]  # (3,) each: value, low and high of original, candidate and difference


def paired_classes(
    metric: Metric, original: Array, candidate: Array, labels: Array, confidence: float, where: str = "rows"
) -> PairedNumbers:
    """Compare two classifiers row by row.

    Args:
        metric: "f1", "roc_auc" or "log_loss".
        original, candidate: float (n, classes), probabilities of the same rows. labels: int (n,).
        confidence: of each interval; corrected by the caller where several candidates try the gate.
        where: what an error names.

    Raises:
        DataError: fewer than 20 rows, or (ROC AUC) rows of one class only.
    """
    n = len(labels)
    if n < LEAST_ROWS:
        raise DataError(f"{n} rows, a bootstrap wants {LEAST_ROWS}", where=where, fix="give more rows")
    if metric == "roc_auc" and len(np.unique(labels)) < 2:
        raise one_class(n)
    ends = {"f1": _f1, "roc_auc": _roc_auc, "log_loss": _log_loss}[metric](original, candidate, labels, confidence)
    before, after, difference = (
        Interval(float(value), float(min(low, value)), float(max(high, value)), n, confidence)
        for value, low, high in zip(*ends, strict=True)
    )
    right, own_right = original.argmax(1) == labels, candidate.argmax(1) == labels
    lost, gained = int((right & ~own_right).sum()), int((~right & own_right).sum())
    return PairedNumbers(metric, before, after, difference, lost, gained)


def _log_loss(original: Array, candidate: Array, labels: Array, confidence: float) -> Ends:
    rows = np.stack([row_losses(original, labels), row_losses(candidate, labels)], axis=1)

    def figures(means: Array) -> Array:
        first, second = means[..., 0], means[..., 1]
        return np.stack([first, second, 1 - second / first])

    return intervals(rows, figures, confidence)


def _roc_auc(original: Array, candidate: Array, labels: Array, confidence: float) -> Ends:
    (one, moves), (other, other_moves) = mean_auc(original, labels), mean_auc(candidate, labels)

    def figures(means: Array) -> Array:
        first, second = one + means[..., 0], other + means[..., 1]
        return np.stack([np.clip(first, 0, 1), np.clip(second, 0, 1), second - first])

    return intervals(np.stack([moves, other_moves], axis=1), figures, confidence)


def _f1(original: Array, candidate: Array, labels: Array, confidence: float) -> Ends:
    first, second = (class_figure("f1", one, labels) for one in (original, candidate))
    drawn = np.concatenate(list(_drawn_f1(labels, original.argmax(1), candidate.argmax(1), draws_for(confidence))))
    tail = (1 - confidence) / 2
    three = np.column_stack([drawn, drawn[:, 1] - drawn[:, 0]])
    low, high = np.quantile(three, [tail, 1 - tail], axis=0)
    return np.array([first, second, second - first]), low, high


def _drawn_f1(labels: Array, first: Array, second: Array, draws: int) -> Iterator[Array]:
    """Macro F1 of both in each draw of the table: float (at most some thousands, 2), all draws one after another.

    Args:
        labels, first, second: int (n,), classes: true, decided by the original, decided by the candidate.
    """
    present, true = np.unique(labels, return_inverse=True)
    count = len(present)
    place = np.full(int(max(labels.max(), first.max(), second.max())) + 1, count)  # a class without rows: elsewhere
    place[present] = np.arange(count)
    cells, rows = np.unique(np.stack([true, place[first], place[second]], axis=1), axis=0, return_counts=True)
    every, away = np.arange(count), np.full(count, count)
    prior = np.concatenate([np.stack([every, every, away], axis=1), np.stack([every, away, every], axis=1)])
    shares = np.tile(HALF * np.bincount(true) / len(labels), 2)
    cells, weights = np.concatenate([cells, prior]), np.concatenate([rows, shares])
    of_true, random = _summed(cells[:, 0], count), np.random.default_rng(SEED)
    sums = [(_summed(np.where(cells[:, 0] == one, one, count), count), _summed(one, count)) for one in cells.T[1:]]
    at_once = max(1, CHUNK // len(weights))
    for start in range(0, draws, at_once):
        drawn = random.standard_gamma(weights, size=(min(at_once, draws - start), len(weights)))
        yield np.stack(
            [(2 * (drawn @ hits) / (drawn @ of_true + drawn @ decided)).mean(axis=1) for hits, decided in sums], axis=1
        )


def _summed(place: Array, count: int) -> csr_array:
    """(cells, count): which column each cell is added to; none where the place is `count`."""
    inside = np.flatnonzero(place < count)
    return csr_array((np.ones(len(inside)), (inside, place[inside])), shape=(len(place), count))
