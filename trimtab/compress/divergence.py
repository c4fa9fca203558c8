"""By how much the answers of a model differ from those of another: mean Kullback-Leibler divergence, in nats.

Of a regression the answers are numbers and no distribution. They are taken for the means of normal distributions whose
variance is that of the original's answers over the rows, output by output; the divergence is then half the squared
difference over that variance. Worked example: answers 0 and 2 (variance 1) that become 1 and 2 give ½ · (1 + 0) / 2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trimtab.optimize.predicting import Forward, predict

TINY = 1e-12  # of a variance: an output that is the same for all rows


def log_probabilities(model: nn.Module, rows: dict[str, Tensor], forward: Forward) -> Tensor:
    """Log-probabilities, float64 (n, classes)."""
    return torch.log_softmax(predict(model, rows, forward).double(), 1)


def divergence_of(original: Tensor, answer: Tensor) -> float:
    """Mean over rows of KL(original ‖ answer), both log-probabilities (n, classes)."""
    return float((original.exp() * (original - answer)).sum(1).mean())


def numbers(model: nn.Module, rows: dict[str, Tensor], forward: Forward) -> Tensor:
    """Answers of a regression, float64 (n, k)."""
    return predict(model, rows, forward).double()


def divergence_of_numbers(original: Tensor, answer: Tensor) -> float:
    """The same of numbers (n, k): mean over rows, summed over outputs."""
    spread = original.var(0, correction=0).clamp_min(TINY)
    return float(((original - answer).square() / (2 * spread)).sum(1).mean())
