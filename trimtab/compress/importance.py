"""How much a channel weighs: the norm of every weight that would go with it.

For one group of coupled layers (see `prune`) the weights of channel i are laid end to end, over all layers of the
group, and their L1, L2 or L∞ norm is taken. L1 and L2 rank channels as Torch-Pruning's `GroupMagnitudeImportance`
does; its p=inf (1.6.1) raises weights to the power of infinity, which is 0 or inf, so the norms are taken here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from trimtab.recipe.schema import Norm

NORMALIZATIONS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
_prune = tp.pruner.function
_INWARDS = (_prune.prune_conv_in_channels, _prune.prune_linear_in_channels)


@torch.no_grad()
def channel_norms(group: Any, channels: int, norm: Norm) -> Tensor:
    """Norm of each channel of a Torch-Pruning group with full indices.

    Args:
        group: items (dependency, indices), each with `root_idxs`: which channel of the first layer an index belongs to.
        channels: output channels of the group's first layer.
        norm: "l1", "l2" or "linf".

    Returns:
        float64 (channels,).
    """
    total = torch.zeros(channels, dtype=torch.float64)
    for item in group:
        for rows in _weights(item.dep, item.idxs):
            owner = torch.tensor(item.root_idxs)
            size = rows.double().abs()
            if norm == "linf":
                total.scatter_reduce_(0, owner, size.amax(1), "amax")
            else:
                total.scatter_add_(0, owner, (size if norm == "l1" else size.square()).sum(1))
    return total.sqrt() if norm == "l2" else total


def _weights(dep: Any, indices: list[int]) -> Iterator[Tensor]:
    """Weights of one layer that belong to the given channels: (len(indices), weights a channel)."""
    layer, handler = dep.target.module, dep.handler
    if isinstance(layer, nn.modules.conv._ConvNd | nn.Linear):
        inwards = handler in _INWARDS
        # Transposed convolutions keep (in, out, ...), all others (out, in, ...).
        axis = int(inwards) ^ int(getattr(layer, "transposed", False))
        rows = layer.weight.transpose(0, 1) if axis else layer.weight
        rows = rows.flatten(1)
        groups = getattr(layer, "groups", 1)
        if inwards and groups > 1:
            rows = rows.repeat(groups, 1)
        yield rows[indices]
    elif isinstance(layer, NORMALIZATIONS) and layer.weight is not None and layer.weight.ndim == 1:
        yield layer.weight[indices].unsqueeze(1)
