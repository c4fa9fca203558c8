"""Rows by true and predicted class, and every metric that is a function of those counts.

The same functions serve what was measured (whole counts), what is drawn for intervals, and what is expected before
labels come (fractions of rows): arrays (..., classes) in, arrays out.

The interval of a mean over classes comes from draws of the whole table from a Dirichlet distribution with Jeffreys'
prior: half a row for each class answered right, half a row for all its mistakes (the Bayesian bootstrap, Rubin 1981).
Without the prior a table without a mistake would claim to be known exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trimtab.candidate import Interval
from trimtab.intervals import exact, spanned
from trimtab.monitoring.metrics import CONFIDENCE

Array = np.ndarray
Drawn = tuple[Array, Array, Array]
DRAWS = 1000
SEED = 0
COUNTED_CLASSES = 1000  # beyond it the table of all pairs is not made
DENSE_CLASSES = 50  # beyond it only cells that hold a row, and the diagonal, are drawn


@dataclass(frozen=True)
class Confusion:
    """n rows.

    Attributes:
        true, predicted, rows: int (m,), the cells that hold a row: true class, predicted class, how many.
        hits: int (classes,), rows of the class that were predicted as it.
        of_true, of_predicted: int (classes,), rows of the class, and rows predicted as it.
    """

    true: Array
    predicted: Array
    rows: Array
    hits: Array
    of_true: Array
    of_predicted: Array

    @property
    def n(self) -> int:
        """All rows."""
        return int(self.rows.sum())

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.hits)

    @property
    def present(self) -> Array:
        """Classes that the labels hold, int (p,); means over classes are over these."""
        return np.flatnonzero(self.of_true)


def confusion(predicted: Array, label: Array, classes: int) -> Confusion:
    """Count rows.

    Args:
        predicted, label: int (n,), each in 0 … classes - 1.
    """
    cells, rows = _counted(label.astype(np.int64) * classes + predicted, classes)
    return Confusion(
        true=cells // classes,
        predicted=cells % classes,
        rows=rows,
        hits=np.bincount(label[predicted == label], minlength=classes),
        of_true=np.bincount(label, minlength=classes),
        of_predicted=np.bincount(predicted, minlength=classes),
    )


def _counted(cells: Array, classes: int) -> tuple[Array, Array]:
    if classes > COUNTED_CLASSES:
        return np.unique(cells, return_counts=True)
    rows = np.bincount(cells)
    return np.flatnonzero(rows), rows[rows > 0]


def rates(metric: str, hits: Array, of_true: Array, of_predicted: Array, n: Array | float) -> Array:
    """A metric of each class against the rest, float (..., classes); NaN where it is 0 / 0.

    Args:
        metric: "precision", "recall", "f1" or "specificity". hits, of_true, of_predicted: (..., classes), counts or
            expected counts. n: rows, a number or (..., 1).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        if metric == "precision":
            return np.asarray(hits / of_predicted)
        if metric == "recall":
            return np.asarray(hits / of_true)
        if metric == "f1":
            return np.asarray(2 * hits / (of_true + of_predicted))
        return np.asarray((n - of_true - of_predicted + hits) / (n - of_true))


def of_class(metric: str, counts: Confusion, index: int) -> Interval | str:
    """A metric of one class with its exact interval (Clopper-Pearson), or why it is undefined.

    F1 is 2 j / (1 + j) of the share j of right answers among the rows that are of the class or were predicted as it;
    given their number the right ones are binomial, so its interval is exact too.
    """
    hits, true, predicted = (int(part[index]) for part in (counts.hits, counts.of_true, counts.of_predicted))
    n = counts.n
    if metric == "precision":
        return exact(hits, predicted, CONFIDENCE) if predicted else f"never predicted in {n} labelled rows"
    if metric == "recall":
        return exact(hits, true, CONFIDENCE) if true else f"no positives among {n} labels"
    if metric == "specificity":
        negatives = n - true
        kept = negatives - (predicted - hits)
        return exact(kept, negatives, CONFIDENCE) if negatives else f"no negatives among {n} labels"
    either = true + predicted - hits
    if not either:
        return f"neither labelled nor predicted in {n} rows"
    share = exact(hits, either, CONFIDENCE)
    value, low, high = (2 * j / (1 + j) for j in (share.value, share.low, share.high))
    return Interval(value, low, high, either, CONFIDENCE)


def macro(metric: str, counts: Confusion, drawn: Drawn) -> Interval | str:
    """The mean over the classes that the labels hold, with its interval, or why it is undefined.

    Args:
        drawn: from `draws` of the same counts.
    """
    present, n = counts.present, counts.n
    each = rates(metric, counts.hits, counts.of_true, counts.of_predicted, n)[present]
    if np.isnan(each).any():
        if metric == "specificity":
            return f"one class only among {n} labels"
        never = present[np.isnan(each)]
        return f"class {never[0]} is never predicted in {n} labelled rows"
    hits, of_true, of_predicted = drawn
    figures = rates(metric, hits, of_true, of_predicted, of_true.sum(axis=1, keepdims=True))[:, present]
    return spanned(float(each.mean()), figures.mean(axis=1), n, CONFIDENCE)


def draws(counts: Confusion) -> Drawn:
    """Hits, rows by true and rows by predicted class of DRAWS tables: float (DRAWS, classes), up to a common factor."""
    classes = counts.classes
    if classes <= DENSE_CLASSES:
        true, predicted = (axis.ravel() for axis in np.indices((classes, classes)))
        rows = np.zeros(classes * classes)
        rows[counts.true * classes + counts.predicted] = counts.rows
    else:
        off = counts.true != counts.predicted
        diagonal = np.arange(classes)
        true, predicted = (np.append(side[off], diagonal) for side in (counts.true, counts.predicted))
        rows = np.append(counts.rows[off], counts.hits).astype(np.float64)
    prior = np.where(true == predicted, 0.5, 0.5 / max(classes - 1, 1))
    drawn = np.random.default_rng(SEED).standard_gamma(rows + prior, size=(DRAWS, len(rows)))
    right = true == predicted
    hits = np.zeros((DRAWS, classes))
    hits[:, true[right]] = drawn[:, right]
    return hits, _summed(drawn, true, classes), _summed(drawn, predicted, classes)


def _summed(drawn: Array, place: Array, classes: int) -> Array:
    """Sums of columns by place: (DRAWS, cells) → (DRAWS, classes)."""
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(classes))
    return np.asarray(np.add.reduceat(drawn[:, order], starts, axis=1))
