"""Every figure of a classifier over labelled rows: of all rows, as a mean over classes, by class, and by slice.

Accuracy over the rows that were predicted as a class is its precision, over the rows that are of it its recall: the
slices by predicted and by true class are among the figures by class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from trimtab.candidate import Interval
from trimtab.intervals import exact
from trimtab.monitoring.confusion import Confusion, confusion, draws, macro, of_class
from trimtab.monitoring.metrics import ALL, BY_COUNTS, CONFIDENCE, MACRO, MICRO, Figure, class_name
from trimtab.monitoring.probabilities import calibration_error, log_loss, ranked, sample

Array = np.ndarray
MOST_CLASSES = 50  # figures by class are left out of larger models: a verdict is kept for ever
MOST_ROWS, MOST_NUMBERS = 200_000, 20_000_000  # that figures of probabilities are taken on; of more rows, a sample
NO_LABELS = "no labelled row"
OVERALL = (
    ("accuracy", ALL),
    *((metric, MACRO) for metric in BY_COUNTS),
    ("f1", MICRO),
    ("roc_auc", MACRO),
    ("log_loss", ALL),
    ("ece", ALL),
)


def class_figures(output: Array, predicted: Array, label: Array, classes: int) -> tuple[Figure, ...]:
    """The figures of labelled rows.

    Args:
        output: float (n, classes), probabilities; rows that are not finite count in what needs no probabilities.
        predicted, label: int (n,), each in 0 … classes - 1.
    """
    if not len(label):
        return tuple(Figure(metric, of, None, NO_LABELS) for metric, of in OVERALL)
    counts = confusion(predicted, label, classes)
    hits = exact(int(counts.hits.sum()), counts.n, CONFIDENCE)
    # Where every row has one label, precision, recall and F1 over all pooled decisions are the accuracy.
    found = [Figure("accuracy", ALL, hits), Figure("f1", MICRO, hits), *_by_counts(counts)]
    return (*found, *_of_probabilities(output, predicted, label, classes))


def slice_figures(predicted: Array, label: Array, slices: Mapping[str, Array]) -> tuple[Figure, ...]:
    """Accuracy on each slice.

    Args:
        predicted, label: int (n,). slices: name → bool (n,).
    """
    found = []
    for name, mask in slices.items():
        n = int(mask.sum())
        interval = exact(int((predicted == label)[mask].sum()), n, CONFIDENCE) if n else None
        found.append(Figure("accuracy", f"slice {name}", interval, "" if n else NO_LABELS))
    return tuple(found)


def _by_counts(counts: Confusion) -> Iterator[Figure]:
    drawn = draws(counts)
    for metric in BY_COUNTS:
        yield _figure(metric, MACRO, macro(metric, counts, drawn))
        for index in _shown(counts.classes):
            yield _figure(metric, class_name(index), of_class(metric, counts, index))


def _of_probabilities(output: Array, predicted: Array, label: Array, classes: int) -> Iterator[Figure]:
    some = sample(len(label), min(MOST_ROWS, max(1, MOST_NUMBERS // classes)))
    given, true, right = np.asarray(output[some], np.float64), label[some], (predicted == label)[some]
    whole = np.isfinite(given).all(axis=1) & (given.sum(axis=1) > 0)
    if not whole.any():
        yield from (Figure(metric, of, None, "no finite probability") for metric, of in OVERALL[-3:])
        return
    yield from ranked(given[whole], true[whole], _shown(classes))
    yield log_loss(given[whole], true[whole])
    yield calibration_error(given[whole].max(axis=1), right[whole])


def _shown(classes: int) -> range:
    return range(classes if classes <= MOST_CLASSES else 0)


def _figure(metric: str, of: str, found: Interval | str) -> Figure:
    if isinstance(found, str):
        return Figure(metric, of, None, found)
    return Figure(metric, of, found)
