"""The memory layout of images while a model is trained: channels last suits the convolutions of CPUs with oneDNN."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from trimtab.data import Array
from trimtab.errors import RecipeError
from trimtab.recipe.training import ChannelsLast


def lies_channels_last(wanted: ChannelsLast, model: nn.Module, inputs: Mapping[str, Array]) -> bool:
    """Whether to train with channels last; `auto`: there are images, all of them float, and layers of Conv2d.

    Args:
        inputs: name → array (n, ...); those of 4 axes are images (n, channels, height, width).

    Raises:
        RecipeError: it is asked for and no input has 4 axes.
    """
    images = [values for values in inputs.values() if values.ndim == 4]
    if wanted is True and not images:
        raise RecipeError(
            "channels last is for inputs of 4 axes (n, channels, height, width), and there is none",
            where="channels_last",
            fix="leave it at auto",
        )
    if wanted == "auto":
        convolves = any(isinstance(module, nn.Conv2d) for module in model.modules())
        return bool(images) and convolves and all(values.dtype.kind == "f" for values in images)
    return wanted


@contextlib.contextmanager
def laid_out(model: nn.Module, channels_last: bool) -> Iterator[None]:
    """The model's parameters and buffers of 4 axes with channels last inside the block, contiguous after it."""
    if not channels_last:
        yield
        return
    _lay_out(model, torch.channels_last)
    try:
        yield
    finally:
        _lay_out(model, torch.contiguous_format)


def with_channels_last(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same values; those of 4 axes lie with channels last."""
    return {
        name: value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
        for name, value in inputs.items()
    }


def _lay_out(model: nn.Module, memory_format: torch.memory_format) -> None:
    # Not `model.to(memory_format=…)`, which raises for weights of 5 axes (Conv3d).
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=memory_format)
