"""By how much the answers of a model differ from those of another: mean Kullback-Leibler divergence, in nats."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trimtab.optimize.predicting import Forward, predict


def log_probabilities(model: nn.Module, rows: dict[str, Tensor], forward: Forward) -> Tensor:
    """Log-probabilities, float64 (n, classes)."""
    return torch.log_softmax(predict(model, rows, forward).double(), 1)


def divergence_of(original: Tensor, answer: Tensor) -> float:
    """Mean over rows of KL(original ‖ answer), both log-probabilities (n, classes)."""
    return float((original.exp() * (original - answer)).sum(1).mean())
