"""Figures of a classifier besides its accuracy: macro F1, ROC AUC and log loss, and what each row contributes.

The figures are scikit-learn's. Means over classes are over the classes that the labels hold, each counting alike.
"""

from __future__ import annotations

import numpy as np

from trimtab.errors import DataError

Array = np.ndarray


def class_figure(metric: str, output: Array, label: Array) -> float:
    """A figure of stated probabilities.

    Args:
        metric: "f1" (mean over classes), "roc_auc" (one class against the rest, mean over classes) or "log_loss".
        output: float (n, classes), finite. label: int (n,).

    Raises:
        DataError: of ROC AUC, the labels hold one class only.
    """
    from sklearn.metrics import f1_score, roc_auc_score  # here, because importing it takes a second

    present = np.unique(label)
    if metric == "f1":
        return float(f1_score(label, output.argmax(1), labels=present, average="macro", zero_division=0))
    if metric == "log_loss":
        return float(row_losses(output, label).mean())
    if len(present) < 2:
        raise one_class(len(label))
    return float(np.mean([roc_auc_score(label == index, output[:, index]) for index in present]))


def row_losses(output: Array, label: Array) -> Array:
    """-ln of the probability of each row's class, float64 (n,); rows are made to sum to 1 first."""
    chances = np.asarray(output, np.float64)
    chances = chances / chances.sum(axis=1, keepdims=True)
    least = np.finfo(np.float64).eps  # so that one certain mistake does not make it infinite
    return np.asarray(-np.log(np.clip(chances[np.arange(len(label)), label], least, 1 - least)))


def auc(score: Array, positive: Array) -> tuple[float, Array]:
    """The AUC, and each row's influence on it, float (n,), of mean 0: the variance of the AUC is that of their mean.

    From the rows' placements (DeLong et al. 1988, with midranks as Sun and Xu 2014 have them).

    Args:
        score: float (n,). positive: bool (n,), some of each.
    """
    from scipy.stats import rankdata  # here, because importing scipy.stats takes a second

    n, count = len(score), int(positive.sum())
    others = n - count
    every = rankdata(score)
    above = np.empty(n)  # of a positive: share of negatives it beats; of a negative: share of positives that beat it
    above[positive] = (every[positive] - rankdata(score[positive])) / others
    above[~positive] = 1 - (every[~positive] - rankdata(score[~positive])) / count
    value = float(above[positive].mean())
    return value, (above - value) * np.where(positive, n / count, n / others)


def mean_auc(output: Array, label: Array) -> tuple[float, Array]:
    """`auc` of each class that the labels hold against the rest, averaged; the influence of a row is averaged too.

    Args:
        output: float (n, classes). label: int (n,), of two classes at least.
    """
    found = [auc(output[:, index], label == index) for index in np.unique(label)]
    return float(np.mean([value for value, _ in found])), np.mean([effect for _, effect in found], axis=0)


def one_class(rows: int) -> DataError:
    """The error for a ROC AUC of rows that are all of one class."""
    return DataError(
        f"one class only among {rows} labels: ROC AUC is undefined",
        where="metric",
        fix="give rows of two classes at least, or judge by another metric",
    )
