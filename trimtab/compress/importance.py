"""How much a channel weighs, by each criterion: norms of its weights, batch-norm scale, first-order Taylor, chance.

For one group of coupled layers (see `prune`) the weights of channel i are laid end to end, over all layers of the
group, and one number is made of them. L1 and L2 rank channels as Torch-Pruning's `GroupMagnitudeImportance` does; its
p=inf (1.6.1) raises weights to the power of infinity, which is 0 or inf, so the norms are taken here.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn

from trimtab.recipe.schema import Norm

BATCH_NORM = nn.modules.batchnorm._BatchNorm
NORMALIZATIONS = (BATCH_NORM, nn.LayerNorm, nn.GroupNorm)
_prune = tp.pruner.function
_INWARDS = (_prune.prune_conv_in_channels, _prune.prune_linear_in_channels)
Read = Callable[[Tensor], Tensor]


def channel_scores(group: Any, channels: int, norm: Norm, root: str = "", seed: int = 0) -> Tensor | None:
    """Score of each channel by the named criterion, float64 (channels,); the lowest go first.

    Args:
        group: items (dependency, indices), each with `root_idxs`: which channel of the first layer an index belongs
            to; with full indices.
        channels: output channels of the group's first layer.
        root: name of that layer; it and `seed` decide the scores of "random".

    Returns:
        None where the criterion has nothing to go by: "bn_scale" in a group without batch norm.
    """
    if norm == "taylor":
        return taylor(group, channels)
    if norm == "bn_scale":
        return bn_scales(group, channels)
    if norm == "random":
        return random_scores(channels, root, seed)
    return channel_norms(group, channels, norm)


@torch.no_grad()
def channel_norms(group: Any, channels: int, norm: Norm) -> Tensor:
    """L1 ("l1"), L2 ("l2") or L∞ norm ("linf") of each channel's weights, float64 (channels,).

    Li et al. 2017, "Pruning Filters for Efficient ConvNets", arXiv:1608.08710, for L1.
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


@torch.no_grad()
def taylor(group: Any, channels: int) -> Tensor:
    """Sum over a channel's weights and biases of (gradient * weight)², float64 (channels,).

    To first order gradient * weight is by how much the loss moves when the weight is set to zero; the squares are
    averaged over mini-batches (Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning",
    arXiv:1906.10771, the sum of individual contributions). Reads `.grad`, see `gradients`; a parameter without one
    counts nothing.
    """
    total = torch.zeros(channels, dtype=torch.float64)
    for item in group:
        for rows in (*_weights(item.dep, item.idxs, _effect), *_biases(item.dep, item.idxs, _effect)):
            total.scatter_add_(0, torch.tensor(item.root_idxs), rows.double().square().sum(1))
    return total


@torch.no_grad()
def bn_scales(group: Any, channels: int) -> Tensor | None:
    """Sum of |γ| over the batch norms of a group, float64 (channels,); None if it has none with a scale.

    Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming", arXiv:1708.06519.
    """
    scaled = [item for item in group if isinstance(item.dep.target.module, BATCH_NORM)]
    scaled = [item for item in scaled if item.dep.target.module.weight is not None]
    if not scaled:
        return None
    total = torch.zeros(channels, dtype=torch.float64)
    for item in scaled:
        for rows in _weights(item.dep, item.idxs):
            total.scatter_add_(0, torch.tensor(item.root_idxs), rows.double().abs().sum(1))
    return total


def random_scores(channels: int, root: str, seed: int) -> Tensor:
    """Scores by chance, the control that every criterion must beat, float64 (channels,); the same for one seed."""
    drawn = np.random.default_rng([seed, zlib.crc32(root.encode())]).random(channels)
    return torch.from_numpy(drawn)


def channel_blocks(group: Any) -> int:
    """In how many equal blocks the channels of a group lie (convolution groups, group norm, attention heads)."""
    counts = [1]
    for dep, _ in group:
        layer = dep.target.module
        if dep.target.type == tp.ops.OPTYPE.DEPTHWISE_CONV:
            continue
        if isinstance(layer, nn.modules.conv._ConvNd):
            counts.append(layer.groups)
        elif isinstance(layer, nn.GroupNorm):
            counts.append(layer.num_groups)
        elif isinstance(layer, nn.MultiheadAttention):
            counts.append(layer.num_heads)
    return max(counts)


def _effect(values: Tensor) -> Tensor:
    return torch.zeros_like(values) if values.grad is None else values * values.grad


def _itself(values: Tensor) -> Tensor:
    return values


def _weights(dep: Any, indices: list[int], read: Read = _itself) -> Iterator[Tensor]:
    """Weights of one layer, or what `read` makes of them, by channel: (len(indices), weights a channel)."""
    layer, handler = dep.target.module, dep.handler
    if isinstance(layer, nn.modules.conv._ConvNd | nn.Linear):
        inwards = handler in _INWARDS
        # Transposed convolutions keep (in, out, ...), all others (out, in, ...).
        axis = int(inwards) ^ int(getattr(layer, "transposed", False))
        weight = read(layer.weight)
        rows = weight.transpose(0, 1) if axis else weight
        rows = rows.flatten(1)
        groups = getattr(layer, "groups", 1)
        if inwards and groups > 1:
            rows = rows.repeat(groups, 1)
        yield rows[indices]
    elif isinstance(layer, NORMALIZATIONS) and layer.weight is not None and layer.weight.ndim == 1:
        yield read(layer.weight)[indices].unsqueeze(1)


def _biases(dep: Any, indices: list[int], read: Read) -> Iterator[Tensor]:
    """The same of the biases that belong to the channels: those of layers that put them out."""
    layer, handler = dep.target.module, dep.handler
    linear = isinstance(layer, nn.modules.conv._ConvNd | nn.Linear) and handler not in _INWARDS
    bias = getattr(layer, "bias", None)
    if (linear or isinstance(layer, NORMALIZATIONS)) and isinstance(bias, Tensor) and bias.ndim == 1:
        yield read(bias)[indices].unsqueeze(1)
