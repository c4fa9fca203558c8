"""Numeric pre-processing, (x * scale - mean) / std: the one implementation, also where the graph is the user's code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

SINGLE_INPUT = "input"


def transform(tensor: Tensor, scale: float, mean: Sequence[float] | None, std: Sequence[float] | None) -> Tensor:
    """(x * scale - mean) / std, in this order, in float32 (or the float type that is given).

    Args:
        tensor: (n, channels, ...), any dtype; integers and bools are cast to float32 unless nothing is to be done.
        mean, std: one value, or one a channel (axis 1; axis 0 of a rank-1 tensor is the batch).

    Raises:
        ValueError: the number of means or standard deviations is neither 1 nor the number of channels.
    """
    if scale == 1.0 and mean is None and std is None:
        return tensor
    values = tensor if tensor.is_floating_point() else tensor.float()
    if scale != 1.0:
        values = values * scale
    if mean is not None:
        values = values - _per_channel("mean", mean, values)
    if std is not None:
        values = values / _per_channel("std", std, values)
    return values


def is_transformed(tensor: Tensor, inputs: Mapping[str, Tensor]) -> bool:
    """Whether pre-processing is for this input.

    Of several inputs only the floating-point ones are transformed: integers and bools beside them are indices and
    masks. A single input is always transformed (an integer image is numeric).
    """
    return len(inputs) == 1 or tensor.is_floating_point()


def _per_channel(key: str, figures: Sequence[float], values: Tensor) -> Tensor:
    channels = values.shape[1] if values.ndim > 1 else 1
    # Shapes are traced values under torch.jit.trace; what is traced has passed this check eagerly before.
    if not torch.jit.is_tracing() and len(figures) not in (1, channels):
        shape = tuple(values.shape)
        raise ValueError(f"{key}: {len(figures)} values for an input of {channels} channels, shape {shape}")
    shape = (1, -1) + (1,) * (values.ndim - 2) if values.ndim > 1 else (-1,)
    return torch.tensor(figures, dtype=values.dtype, device=values.device).view(shape)
