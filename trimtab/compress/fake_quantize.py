"""Rounding as an INT8 graph does it, with a gradient: for training (Jacob et al. 2018, arXiv:1712.05877).

A value is divided by its scale, rounded, cut off at the ends of the integers and multiplied back; the gradient passes
as if nothing had been rounded, and is zero beyond the ends ("straight-through"). The operators are PyTorch's own; here
is what decides scale and zero point, by the formulas of ONNX Runtime's quantizer, so that the file has the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LARGEST_WEIGHT = 64  # 7 bits, symmetric: see `quantize`
LARGEST_ACTIVATION = 255
AVERAGING = 0.01  # weight of a batch's extremes in the moving averages of the range
TINY = torch.finfo(torch.float32).tiny


class ActivationRange(nn.Module):
    """Rounds to uint8 over a range that follows the batches while `observing` and training, then stands still.

    The range is that of moving averages of the batches' extremes (section 3.1 of the paper). It is in the state dict:
    weights of an epoch come back with the ranges they were trained with.

    Args:
        low, high: the range to begin with; 0 is always within.
        observing: False for a range that never moves.
    """

    low: Tensor
    high: Tensor

    def __init__(self, low: float, high: float, observing: bool = True) -> None:
        super().__init__()
        self.register_buffer("low", torch.tensor(low, dtype=torch.float32))
        self.register_buffer("high", torch.tensor(high, dtype=torch.float32))
        self.observing = observing

    def forward(self, value: Tensor) -> Tensor:
        """The value, rounded."""
        if self.training and self.observing:
            with torch.no_grad():
                low, high = torch.aminmax(value.detach())
                self.low.lerp_(low.clamp(max=0), AVERAGING)
                self.high.lerp_(high.clamp(min=0), AVERAGING)
        scale = (self.high - self.low) / LARGEST_ACTIVATION
        empty = scale < TINY  # a tensor that is zero everywhere
        scale = torch.where(empty, torch.ones_like(scale), scale)
        zero = torch.where(empty, torch.zeros_like(scale), (-self.low / scale).round())
        return torch.fake_quantize_per_tensor_affine(value, scale, zero.to(torch.int32), 0, LARGEST_ACTIVATION)


def rounded_weight(weight: Tensor, axis: int | None) -> Tensor:
    """The weight as its 7-bit integers give it back.

    Args:
        weight: any shape.
        axis: along which each slice has a scale of its own; None: one scale.
    """
    with torch.no_grad():
        others = [dim for dim in range(weight.ndim) if dim != axis]
        largest = weight.abs().amax(others) if axis is not None else weight.abs().max()
        scale = largest / LARGEST_WEIGHT
        scale = torch.where(scale < TINY, torch.ones_like(scale), scale)
        zero = torch.zeros_like(scale, dtype=torch.int32)
    if axis is None:
        return torch.fake_quantize_per_tensor_affine(weight, scale, zero, -LARGEST_WEIGHT, LARGEST_WEIGHT)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, axis, -LARGEST_WEIGHT, LARGEST_WEIGHT)


def folded_weight(weight: Tensor, gamma: Tensor | None, variance: Tensor, eps: float, channels: int) -> Tensor:
    """The weight with the batch norm after it multiplied in; `channels` is the axis of the layer's outputs."""
    shape = [-1 if axis == channels else 1 for axis in range(weight.ndim)]
    return weight * _factor(gamma, variance, eps).reshape(shape)


def folded_bias(
    bias: Tensor | None, gamma: Tensor | None, beta: Tensor | None, mean: Tensor, variance: Tensor, eps: float
) -> Tensor:
    """The bias that goes with `folded_weight`: float (channels,)."""
    shifted = (-mean if bias is None else bias - mean) * _factor(gamma, variance, eps)
    return shifted if beta is None else shifted + beta


def _factor(gamma: Tensor | None, variance: Tensor, eps: float) -> Tensor:
    inverse = torch.rsqrt(variance + eps)
    return inverse if gamma is None else gamma * inverse
