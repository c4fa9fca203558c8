"""Weights of convolutions and linear layers as rows that share one range of a quantizer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trimtab.errors import UnsupportedError

LAYERS = (nn.modules.conv._ConvNd, nn.Linear)


def weighted_layers(model: nn.Module, done: str, section: str) -> dict[str, Any]:
    """Name → layer; a weight that two layers share is there once.

    Args:
        done: what is to be done to the weights, for the message, e.g. "clipped". section: of the recipe.

    Raises:
        UnsupportedError: there is no such layer, or a weight is NaN or infinite.
    """
    found = {id(m.weight): (name, m) for name, m in model.named_modules() if isinstance(m, LAYERS)}
    if not found:
        raise UnsupportedError(
            f"no weight can be {done}: there is no convolution or linear layer",
            where=type(model).__name__,
            fix=f"set {section} to null for this model",
        )
    for name, layer in found.values():
        if not torch.isfinite(layer.weight).all():
            raise UnsupportedError("weights are NaN or infinite", where=f"{name}.weight", fix="train again")
    return dict(found.values())


def as_rows(layer: Any, per_channel: bool = True) -> Tensor:
    """A copy as (ranges, weights of one range): transposed convolutions keep (in, out, ...), all others (out, ...)."""
    weight = layer.weight.detach()
    if not per_channel:
        return weight.reshape(1, -1).clone()
    return (weight.transpose(0, 1) if getattr(layer, "transposed", False) else weight).flatten(1).clone()


@torch.no_grad()
def put_rows(rows: Tensor, layer: Any, per_channel: bool = True) -> None:
    """Write what `as_rows` gave, changed, into the layer."""
    shape = layer.weight.shape
    if per_channel and getattr(layer, "transposed", False):
        layer.weight.copy_(rows.reshape(shape[1], shape[0], *shape[2:]).transpose(0, 1))
    else:
        layer.weight.copy_(rows.reshape(shape))
