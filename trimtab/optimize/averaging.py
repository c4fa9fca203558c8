"""An exponential moving average of the weights, taken after every optimizer step.

Polyak and Juditsky 1992, "Acceleration of Stochastic Approximation by Averaging", with exponential weights: after the
first step the average is the weights; after each further one it is decay * average + (1 - decay) * weights.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class MovingAverage:
    """A copy of a model whose weights are the moving average of the model's.

    Running statistics of batch norm are averaged with the same decay, so that they belong to the averaged weights.
    Buffers of integers and booleans (counters, indices), and those that hold infinities (masks), are copied.

    Args:
        model: the module that is trained; it is copied, never changed.
        decay: in (0, 1).

    Attributes:
        model: the averaged module, of the same class.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        self.model: nn.Module = self._average.module

    def update(self, model: nn.Module) -> None:
        """Take in the model's weights after a step."""
        self._average.update_parameters(model)
        for average, now in zip(self.model.buffers(), model.buffers(), strict=True):
            # An average of whole numbers is cut down to a whole number, and inf - inf is NaN.
            if not now.is_floating_point() or not torch.isfinite(now).all():
                average.copy_(now)
