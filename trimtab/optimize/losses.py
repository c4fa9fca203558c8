"""The loss of a training by the recipe: cross-entropy with smoothing and class weights; of numbers MSE, Huber or L1.

Which of the two it is, labels tell: int64 (n,) are classes, float32 (n, k) are numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trimtab.errors import DataError, RecipeError
from trimtab.optimize.batches import Batch
from trimtab.optimize.weighting import mean, scaled
from trimtab.recipe.schema import Train

Loss = Callable[[Tensor, Batch], Tensor]
OF_NUMBERS: dict[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "huber": F.huber_loss, "l1": F.l1_loss}


def plain_loss(answers: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of logits (n, classes) for labels int64 (n,); mean squared error of numbers (n, k) for floats.

    Args:
        weights: (n,), with a mean of 1; None: all rows count alike.
    """
    of = F.mse_loss if labels.is_floating_point() else F.cross_entropy
    return of(answers, labels) if weights is None else mean(of(answers, labels, reduction="none"), weights)


def recipe_loss(settings: Train, labels: np.ndarray, classes: int, weights: np.ndarray | None = None) -> Loss:
    """Cross-entropy as `label_smoothing` and `class_weights` ask, or `loss` of numbers: (answers, batch) → scalar.

    Smoothing: Szegedy et al. 2016, "Rethinking the Inception Architecture", arXiv:1512.00567, section 7. With class
    weights the mean over rows is the weighted one, as in torch.

    Args:
        labels: int64 (n,), or float32 (n, k), of all training rows. classes: number of logits.
        weights: float32 (n,), how many rows each counts as, also where classes are balanced; None: all alike.

    Raises:
        RecipeError: the list of class weights has another length than there are classes.
        DataError: weights are to be balanced and a class has no row.
    """
    if labels.dtype.kind == "f":
        of_numbers = OF_NUMBERS[settings.loss or "mse"]
        if weights is None:
            return lambda answers, batch: of_numbers(answers, batch.labels)
        counted = scaled(weights)
        return lambda answers, batch: mean(of_numbers(answers, batch.labels, reduction="none"), counted[batch.rows])
    of_classes = class_weights(settings, labels, classes, weights)
    if weights is not None:
        return _counted(
            settings, of_classes, scaled(weights, None if of_classes is None else of_classes.numpy()[labels])
        )

    def loss(logits: Tensor, batch: Batch) -> Tensor:
        weight = None if of_classes is None else of_classes.to(logits.dtype)
        return F.cross_entropy(logits, batch.labels, weight=weight, label_smoothing=settings.label_smoothing)

    return loss


def _counted(settings: Train, of_classes: Tensor | None, counted: Tensor) -> Loss:
    """The cross-entropy of rows that count differently: `counted` (n,) of all training rows."""

    def loss(logits: Tensor, batch: Batch) -> Tensor:
        weight = None if of_classes is None else of_classes.to(logits.dtype)
        rows = F.cross_entropy(
            logits, batch.labels, weight=weight, label_smoothing=settings.label_smoothing, reduction="none"
        )
        total = mean(rows, counted[batch.rows])
        return total if weight is None else total / weight[batch.labels].mean()

    return loss


def class_weights(
    settings: Train, labels: np.ndarray, classes: int, weights: np.ndarray | None = None
) -> Tensor | None:
    """Float64 (classes,), or None. Raises: as `recipe_loss`."""
    given = settings.class_weights
    if given is None:
        return None
    if given == "balanced":
        return balanced_weights(labels, classes, weights)
    if len(given) != classes:
        raise RecipeError(
            f"{len(given)} weights, the model has {classes} classes",
            where="train.class_weights",
            fix=f"give {classes} weights, or `balanced`",
        )
    return torch.tensor(given, dtype=torch.float64)


def balanced_weights(labels: np.ndarray, classes: int, weights: np.ndarray | None = None) -> Tensor:
    """n / (k * n_c) for each class c of k, with n_c of the n rows: float64 (classes,).

    King and Zeng 2001, "Logistic Regression in Rare Events Data"; the weighted rows sum to n. Worked example: labels
    0, 0, 0, 1 give 4 / (2 * 3) = 2/3 and 4 / (2 * 1) = 2. With `weights` a row counts as so many.

    Raises:
        DataError: a class has no row.
    """
    counts = np.bincount(labels, weights, minlength=classes)
    absent = np.flatnonzero(counts == 0)
    if len(absent):
        raise DataError(
            f"no training row of class {', '.join(str(label) for label in absent[:5])}: its weight would be infinite",
            where="train.class_weights",
            fix="give rows of every class, or weights as a list",
        )
    return torch.from_numpy(counts.sum() / (classes * counts))
