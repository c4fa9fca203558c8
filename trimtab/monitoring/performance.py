"""How accurate a window was on the rows whose labels have arrived, and whether that is damage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from trimtab.bootstrap import LEAST_ROWS, intervals
from trimtab.candidate import Interval
from trimtab.errors import DataError
from trimtab.task import ERRORS, NAMES, Metric, figure, moments

Array = np.ndarray
Answer = Literal["ok", "damage", "undecided", "too_few_labels"]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Performance:
    """Measured accuracy against the verified one.

    Attributes:
        answer: "damage": even the upper end of the interval is below `limit`; "ok": even the lower end is not below it;
            "undecided": the interval holds the limit; "too_few_labels": fewer labelled rows than asked for.
        accuracy: exact (Clopper-Pearson) interval over the labelled rows; None without any.
        verified: accuracy when the release was verified.
        limit: verified accuracy less the damage that is accepted.
        metric: of a regression, what `accuracy` and `verified` then are of: "rmse", "mae" or "r2".
        rows, labelled: rows answered, and those of them with a usable label; `coverage` is their ratio.
        invalid_labels: rows whose label is no class of the model; not scored.
    """

    answer: Answer
    accuracy: Interval | None
    verified: Interval
    limit: float
    rows: int
    labelled: int
    invalid_labels: int
    metric: Metric | None = None

    @property
    def name(self) -> str:
        """The metric as it is written."""
        return NAMES[self.metric or "accuracy"]

    @property
    def coverage(self) -> float:
        """Share of the answered rows that were scored."""
        return self.labelled / self.rows if self.rows else 0.0


def exact_accuracy(predicted: Array, label: Array, confidence: float = CONFIDENCE) -> Interval:
    """Share of rows predicted right, with the exact binomial interval (Clopper and Pearson 1934).

    Args:
        predicted, label: (n,) class indices, n ≥ 1.
        confidence: of the two-sided interval.
    """
    from scipy.stats import binomtest  # here, because importing scipy.stats takes a second

    n, hits = len(label), int((predicted == label).sum())
    interval = binomtest(hits, n).proportion_ci(confidence_level=confidence, method="exact")
    return Interval(hits / n, float(interval.low), float(interval.high), n, confidence)


def measure(
    predicted: Array, label: Array, classes: int, verified: Interval, max_damage: float, min_labels: int
) -> Performance:
    """Accuracy of a window over its labelled rows only.

    "Damage" rejects "true accuracy ≥ verified − max_damage" in a one-sided exact test at 2.5 %. The verified accuracy
    enters as its point estimate: `max_damage` is the margin that has to cover its own uncertainty. Labels are assumed
    to arrive regardless of whether the answer was right; the coverage is shown so that a reader can doubt it.

    Args:
        predicted: (n,) class indices of all answered rows.
        label: (n,) class indices, -1 where none has arrived.
        classes: number of classes; a label outside is counted apart and not scored.
        verified: accuracy of the release on its gate rows.
        max_damage: share of accuracy whose loss is accepted.
        min_labels: fewer labelled rows give no answer.
    """
    scored = (label >= 0) & (label < classes)
    labelled = int(scored.sum())
    limit = verified.value - max_damage
    accuracy = exact_accuracy(predicted[scored], label[scored]) if labelled else None
    return Performance(
        answer=_answer(accuracy, limit, min_labels),
        accuracy=accuracy,
        verified=verified,
        limit=limit,
        rows=len(label),
        labelled=labelled,
        invalid_labels=int(np.count_nonzero(label >= classes)),
    )


def metric_interval(metric: Metric, output: Array, labels: Array) -> Interval:
    """A regression's metric with its bootstrap interval.

    Args:
        output, labels: float (n, k), n ≥ 20.

    Raises:
        DataError: fewer rows, or labels that do not vary (R²).
    """
    rows = moments(metric, output, labels)
    if len(rows) < LEAST_ROWS:
        raise DataError(f"{len(rows)} labelled rows, a bootstrap wants {LEAST_ROWS}", fix="give more")
    if np.isnan(figure(metric, rows.mean(axis=0))):
        raise DataError("the labels do not vary: R² is undefined", where="labels", fix="use rmse or mae")
    (value,), (low,), (high,) = intervals(rows, lambda means: figure(metric, means)[None], CONFIDENCE)
    return Interval(float(value), float(low), float(high), len(rows), CONFIDENCE)


def measure_numbers(
    output: Array, label: Array, metric: Metric, verified: Interval, max_damage: float, min_labels: int
) -> Performance:
    """RMSE, MAE or R² of a window over its labelled rows; damage is a drop as `budget.max_drop` has it.

    The limit of an error is the verified one plus the share `max_damage` of it; of R² it is lower by `max_damage`.
    "Damage": even the better end of the bootstrap interval is beyond the limit.

    Args:
        output: (n, k) answers. label: float (n,), NaN where none has arrived; of one output.
        metric, verified: of the release. max_damage, min_labels: as for `measure`.
    """
    scored = np.isfinite(label) & np.isfinite(output).all(axis=1)
    labelled = int(scored.sum())
    worse_is_more = metric in ERRORS
    limit = verified.value * (1 + max_damage) if worse_is_more else verified.value - max_damage
    known, given = label[scored].reshape(-1, 1), output[scored]
    enough = labelled >= LEAST_ROWS and (worse_is_more or np.ptp(known) > 0)
    interval = metric_interval(metric, given, known) if enough else None
    answer: Answer = "too_few_labels"
    if interval is not None and labelled >= min_labels:
        best, worst = (interval.low, interval.high) if worse_is_more else (-interval.high, -interval.low)
        most = limit if worse_is_more else -limit
        answer = "damage" if best > most else "ok" if worst <= most else "undecided"
    return Performance(answer, interval, verified, limit, len(label), labelled, 0, metric)


def _answer(accuracy: Interval | None, limit: float, min_labels: int) -> Answer:
    if accuracy is None or accuracy.n < min_labels:
        return "too_few_labels"
    if accuracy.high < limit:
        return "damage"
    return "ok" if accuracy.low >= limit else "undecided"
