"""The figure that decides: what it was on the rows whose labels have arrived, and whether that is damage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from trimtab.bootstrap import LEAST_ROWS, RESAMPLES, SEED, intervals
from trimtab.candidate import Interval
from trimtab.errors import DataError
from trimtab.intervals import exact
from trimtab.monitoring.metrics import CONFIDENCE, Figure, answer_of, limit_of, written
from trimtab.task import ERRORS, Metric, figure, moments

Array = np.ndarray
Answer = Literal["ok", "damage", "undecided", "too_few_labels", "undefined"]
NORMAL_ROWS = 20_000


@dataclass(frozen=True)
class Performance:
    """The deciding metric as measured, against the verified one; accuracy where `metric` is None.

    Attributes:
        answer: "damage": even the better end of the interval is beyond `limit`; "ok": even the worse end is not beyond
            it; "undecided": the interval holds the limit; "too_few_labels": fewer labelled rows than asked for;
            "undefined": there are enough, but the metric cannot be formed of them.
        accuracy: interval over the labelled rows, of accuracy exact (Clopper-Pearson); None without any.
        verified: the figure when the release was verified.
        limit: the verified figure less the damage that is accepted.
        metric, of: where it is not accuracy, what `accuracy` and `verified` are of (see `metrics.Figure`).
        undefined: why it cannot be formed.
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
    metric: str | None = None
    of: str | None = None
    undefined: str | None = None

    @property
    def name(self) -> str:
        """The metric as it is written."""
        return written(self.metric or "accuracy", self.of)

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
    return exact(int((predicted == label).sum()), len(label), confidence)


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


def measure_figure(
    found: Figure, verified: Interval, usual: Performance, max_damage: float, min_labels: int
) -> Performance:
    """Another metric than the usual one, against what was verified of it.

    Args:
        found: the figure over the labelled rows. verified: of the release.
        usual: the usual metric of the same rows, which says how many they are.
        max_damage, min_labels: as for `measure`.
    """
    limit = limit_of(found.metric, verified.value, max_damage)
    answer: Answer = "too_few_labels"
    if usual.labelled >= min_labels:
        answer = "undefined" if found.interval is None else answer_of(found.metric, found.interval, limit)
    return replace(
        usual,
        answer=answer,
        accuracy=found.interval,
        verified=verified,
        limit=limit,
        metric=found.metric,
        of=found.of,
        undefined=found.undefined or None,
    )


def metric_interval(metric: Metric, output: Array, labels: Array) -> Interval:
    """A regression's metric with its bootstrap interval.

    Beyond 20,000 rows the means of which the metric is a function are drawn from the normal distribution that the
    bootstrap's then have, which takes no longer for more rows.

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
    if len(rows) > NORMAL_ROWS:
        return _normal_interval(metric, rows)
    (value,), (low,), (high,) = intervals(rows, lambda means: figure(metric, means)[None], CONFIDENCE)
    return Interval(float(value), float(low), float(high), len(rows), CONFIDENCE)


def _normal_interval(metric: Metric, rows: Array) -> Interval:
    mean, spread = rows.mean(axis=0), np.cov(rows, rowvar=False, ddof=1).reshape(rows.shape[1], -1) / len(rows)
    drawn = np.random.default_rng(SEED).multivariate_normal(mean, spread, RESAMPLES)
    low, high = np.quantile(figure(metric, np.maximum(drawn, 0) if metric in ERRORS else drawn), [0.025, 0.975])
    return Interval(float(figure(metric, mean)), float(low), float(high), len(rows), CONFIDENCE)


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
    limit = limit_of(metric, verified.value, max_damage)
    known, given = label[scored].reshape(-1, 1), output[scored]
    varies = metric in ERRORS or (labelled > 0 and np.ptp(known) > 0)
    interval = metric_interval(metric, given, known) if labelled >= LEAST_ROWS and varies else None
    answer: Answer = "too_few_labels"
    if labelled >= max(min_labels, LEAST_ROWS):
        answer = "undefined" if interval is None else answer_of(metric, interval, limit)
    why = f"{labelled} labels that do not vary" if answer == "undefined" else None
    return Performance(answer, interval, verified, limit, len(label), labelled, 0, metric, undefined=why)


def _answer(accuracy: Interval | None, limit: float, min_labels: int) -> Answer:
    if accuracy is None or accuracy.n < min_labels:
        return "too_few_labels"
    return answer_of("accuracy", accuracy, limit)
