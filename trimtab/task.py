"""What a model is for, as one value: classification or regression, with its metric, its output and its words.

Everything that differs between the two and is asked in more than one place is asked here. A *score* is the metric with
the sign that makes more of it better (accuracy, F1, ROC AUC, R², minus RMSE, MAE and log loss), so that whoever orders
candidates need not know the metric. A *drop* is what `budget.max_drop` bounds: of an error the relative worsening, of
all others the difference. Worked example: an RMSE of 2.0 before and 2.1 after is a drop of 0.05, an R² of 0.80 and 0.78
one of 0.02.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from trimtab.class_metrics import class_figure
from trimtab.errors import DataError

Array = np.ndarray
Kind = Literal["classification", "regression"]
Metric = Literal["accuracy", "f1", "roc_auc", "log_loss", "rmse", "mae", "r2"]
PROBABILITIES, PREDICTION = "probabilities", "prediction"
OF_NUMBERS: tuple[Metric, ...] = ("rmse", "mae", "r2")
NAMES = {
    "accuracy": "accuracy",
    "f1": "macro F1",
    "roc_auc": "ROC AUC",
    "log_loss": "log loss",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
}
WORST = -float(np.finfo(np.float32).max)  # finite, so that it can be ordered, and be written as JSON
ERRORS = frozenset({"rmse", "mae", "log_loss"})  # the less, the better, and a change is relative


@dataclass(frozen=True)
class Task:
    """One of the two kinds and the metric it is judged by."""

    kind: Kind = "classification"
    metric: Metric = "accuracy"

    @classmethod
    def of(cls, metric: Metric) -> Task:
        """The task that has this metric."""
        return cls("regression" if metric in OF_NUMBERS else "classification", metric)

    @property
    def by_accuracy(self) -> bool:
        """Whether it is judged by a share of right answers: percents, differences in points, exact intervals."""
        return self.metric == "accuracy"

    @property
    def regression(self) -> bool:
        """Whether answers and labels are numbers: float32 (n, k)."""
        return self.kind == "regression"

    @property
    def output(self) -> str:
        """What the deployed graph calls its answer."""
        return PREDICTION if self.regression else PROBABILITIES

    @property
    def name(self) -> str:
        """The metric as it is written: "accuracy", "macro F1", "RMSE", "R²"."""
        return NAMES[self.metric]

    @property
    def relative(self) -> bool:
        """Whether a drop is relative to the original's figure: of errors."""
        return self.metric in ERRORS

    def score(self, answers: Array, labels: Array) -> float:
        """How good answers are; the more, the better. Numbers that are not finite are as bad as can be.

        Args:
            answers: float (n, classes), or (n, k). labels: int64 (n,), or float32 (n, k).

        Raises:
            DataError: of ROC AUC, the labels hold one class only.
        """
        if self.by_accuracy:
            return float((answers.argmax(1) == labels).mean())
        if not np.isfinite(answers).all():
            return WORST
        if self.regression:
            value = float(figure(self.metric, moments(self.metric, answers, labels).mean(0)))
        else:
            value = class_figure(self.metric, answers, labels)
        return -value if self.relative else value

    def drop(self, before: float, after: float) -> float:
        """By how much a score is worse than the one before; negative where it is better.

        Raises:
            DataError: the original makes no error at all, so that nothing can be relative to it.
        """
        if not self.relative:
            return before - after
        if before == 0:
            raise no_error(self.metric)
        return after / before - 1

    def show(self, score: float, digits: int = 2) -> str:
        """A score as the metric is read: "98.20 %", "3.142", "0.9120"."""
        if self.by_accuracy:
            return f"{100 * score:.{digits}f} %"
        return f"{-score:.4g}" if self.relative else f"{score:.4f}"

    def show_drop(self, drop: float, digits: int = 2) -> str:
        """A drop, or a difference, signed: "−1.23 points", "−1.23 %" of an error, "−0.0123" of R², F1 and ROC AUC."""
        if not (self.by_accuracy or self.relative):
            return f"{drop:+.4f}".replace("-", "−")
        unit = " %" if self.relative else " points"
        return f"{100 * drop:+.{digits}f}".replace("-", "−") + unit


CLASSIFICATION = Task()


def moments(metric: str, answers: Array, labels: Array) -> Array:
    """What the metric is a function of, row by row: float64 (n, m), to be averaged over rows for `figure`.

    MAE: the mean absolute error of the row. RMSE: its mean squared error. R²: for each of k outputs the squared error,
    the label and the label's square (labels less their mean, which changes nothing and loses no digits).

    Args:
        metric: "mae", "rmse" or "r2". answers, labels: float (n, k).
    """
    given, truth = np.asarray(answers, np.float64), np.asarray(labels, np.float64)
    if given.shape != truth.shape or given.ndim != 2:
        raise DataError(f"answers are {given.shape}, labels {truth.shape}", where="metric", fix="give (n, k) twice")
    error = given - truth
    if metric == "mae":
        return np.abs(error).mean(1, keepdims=True)
    if metric == "rmse":
        return np.square(error).mean(1, keepdims=True)
    centred = truth - truth.mean(0)
    return np.concatenate([np.square(error), centred, np.square(centred)], axis=1)


def figure(metric: str, means: Array) -> Array:
    """The metric from the means of its moments, float64 (..., m) → (...).

    R² is averaged over the outputs, each counting alike, as scikit-learn's r2_score does by default; NaN where the
    labels of an output do not vary.
    """
    if metric == "mae":
        return means[..., 0]
    if metric == "rmse":
        return np.sqrt(means[..., 0])
    squared, label, square = np.split(means, 3, axis=-1)
    spread = square - np.square(label)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 0, 1 - squared / spread, np.nan).mean(-1)


def no_error(metric: str) -> DataError:
    """The error for a relative drop from an original that is always exactly right."""
    return DataError(
        f"the original's {NAMES[metric]} is 0: no error is relative to that",
        where="metric",
        fix="judge by a metric that is no error (r2, roc_auc), or give rows on which the original is not exactly right",
    )
