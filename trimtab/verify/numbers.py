"""Two models on the same rows: a metric that is no share of rows of each, and the difference, with paired bootstrap
intervals. Here the regressions (RMSE, MAE, R²); `class_numbers` compares classifiers.

In each draw of rows both models are judged on the same ones (see `bootstrap`), so that rows which are hard for both
cancel out of the difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from trimtab.bootstrap import LEAST_ROWS, intervals
from trimtab.candidate import Interval, Json
from trimtab.errors import DataError
from trimtab.task import ERRORS, Metric, Task, figure, moments, no_error
from trimtab.verify.accuracy import Paired

Array = np.ndarray


@dataclass(frozen=True)
class PairedNumbers:
    """Two models on the same rows.

    Attributes:
        metric: "rmse", "mae" or "r2"; of classifiers "f1", "roc_auc" or "log_loss".
        original, candidate: the metric of each.
        difference: how much better the candidate is: of an error 1 - candidate / original, else the difference. Below
            0 it is worse, as a difference of accuracies would be.
        lost, gained: rows on which the candidate is further off than the original, and nearer; of classifiers, rows
            that only the original, and only the candidate, decides right.
    """

    metric: Metric
    original: Interval
    candidate: Interval
    difference: Interval
    lost: int
    gained: int

    @property
    def name(self) -> str:
        """The metric as it is written."""
        return self._task.name

    @property
    def _task(self) -> Task:
        return Task.of(self.metric)

    def show(self, value: float) -> str:
        """A figure of the metric, e.g. "3.142"."""
        return f"{value:.4g}" if self.metric in ERRORS else f"{value:.4f}"

    def amount(self, difference: float) -> str:
        """A difference in words: "5.00 % worse", of what is no error "0.0123 better"."""
        size = f"{100 * abs(difference):.2f} %" if self.metric in ERRORS else f"{abs(difference):.4f}"
        return size if round(difference, 4) == 0 else f"{size} {'better' if difference > 0 else 'worse'}"

    bare = amount

    def within(self, limit: float) -> str:
        """What meets a limit is, in words."""
        return f"within {self.amount(limit)}, which is allowed"

    @property
    def counts(self) -> str:
        """Rows lost and gained, in words."""
        if not self._task.regression:
            return f"{self.lost} decisions lost, {self.gained} gained of {self.difference.n} rows"
        return f"{self.lost} rows further off, {self.gained} nearer of {self.difference.n} rows"

    def to_json(self) -> dict[str, Json]:
        """Plain dict, JSON-safe."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> PairedNumbers:
        """The inverse of `to_json`."""
        intervals = {key: Interval(**value[key]) for key in ("original", "candidate", "difference")}
        return cls(value["metric"], **intervals, lost=value["lost"], gained=value["gained"])


def paired_numbers(
    metric: Metric, original: Array, candidate: Array, labels: Array, confidence: float, where: str = "rows"
) -> PairedNumbers:
    """Compare two regressions row by row.

    Args:
        original, candidate, labels: float (n, k), same rows, same order.
        confidence: of each interval; corrected by the caller where several candidates try the gate.
        where: what an error names.

    Raises:
        DataError: fewer than 20 rows, other shapes, labels that do not vary (R²), or an original that is exactly right
            (a relative difference).
    """
    one, other = moments(metric, original, labels), moments(metric, candidate, labels)
    n, width = one.shape
    if n < LEAST_ROWS:
        raise DataError(f"{n} rows, a bootstrap wants {LEAST_ROWS}", where=where, fix="give more rows")
    if np.isnan(figure(metric, one.mean(0))):
        raise DataError("the labels of an output do not vary: R² is undefined", where=where, fix="use rmse or mae")
    if metric in ERRORS and figure(metric, one.mean(0)) == 0:
        raise no_error(metric)
    both = np.concatenate([one, other], axis=1)

    def figures(means: Array) -> Array:
        """(..., m) → (3, ...): original, candidate, difference."""
        first, second = figure(metric, means[..., :width]), figure(metric, means[..., width:])
        with np.errstate(divide="ignore", invalid="ignore"):
            better = 1 - second / first if metric in ERRORS else second - first
        return np.stack([first, second, better])

    before, after, difference = (
        Interval(float(value), float(low), float(high), n, confidence)
        for value, low, high in zip(*intervals(both, figures, confidence), strict=True)
    )
    off, other_off = (np.abs(np.asarray(a, np.float64) - labels).mean(1) for a in (original, candidate))
    lost, gained = int((other_off > off).sum()), int((other_off < off).sum())
    return PairedNumbers(metric, before, after, difference, lost, gained)


def paired_from_json(value: Mapping[str, Json]) -> Paired | PairedNumbers:
    """`Paired` or `PairedNumbers`, whichever it was."""
    return PairedNumbers.from_json(value) if "metric" in value else Paired.from_json(value)
