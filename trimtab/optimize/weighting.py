"""Rows that count more than others in a loss: one of weight w counts as w rows like it would.

Weights are scaled once, over all training rows, to a mean of 1, and not within each batch: there a batch of one row
would undo them, and what a row counts would depend on the rows that it was drawn with. The gradient of a batch is then,
on average over the draws, that of the weighted mean over all rows; of full-batch descent it is exactly that.

Worked example: weights 1, 1, 2 are scaled to 3/4, 3/4, 3/2; the mean of the scaled losses a, b, c is (a + b + 2c) / 4.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from trimtab.data import Split


def scaled(weights: np.ndarray, classes: np.ndarray | None = None) -> Tensor:
    """Float32 (n,): the weights with a mean of 1.

    Args:
        weights: float (n,), above 0, a row.
        classes: float (n,), the weight of each row's class, where the loss divides by the sum of those.
    """
    beside = np.ones(len(weights)) if classes is None else classes
    wide = weights.astype(np.float64)
    return torch.from_numpy((wide * (beside.sum() / (wide * beside).sum())).astype(np.float32))


def weights_of(split: Split) -> Tensor | None:
    """Float32 (n,), with a mean of 1; None where all rows count alike."""
    return None if split.weights is None else scaled(split.weights)


def mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    """Mean of losses (b,), or (b, k) over both, a row's loss times its weight: scalar."""
    rows = losses if losses.ndim == 1 else losses.flatten(1).mean(1)
    return rows.mean() if weights is None else (rows * weights.to(rows.dtype)).mean()
