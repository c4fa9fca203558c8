"""The groups of a model: which channels go together, how many there are, and whether they can be cut at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from trimtab.compress.equivalence import slices
from trimtab.compress.importance import channel_blocks
from trimtab.compress.replay import PRUNERS_ARE_SHARED, History
from trimtab.compress.trial import Trial
from trimtab.errors import UnsupportedError
from trimtab.optimize.predicting import Forward

Array = np.ndarray


@dataclass(frozen=True)
class Group:
    """Layers whose channels can only be removed together.

    Attributes:
        root: name of the first layer whose output channels they are; what `prune` takes ratios by.
        channels: how many there are.
        coupled: names of all layers whose output channels belong to the group, the root first.
        parameters: weights and biases that belong to these channels, in all layers that put them out or read them;
            one that two groups share is counted in both.
        blocks: equal blocks the channels lie in (convolution groups, heads); each keeps as many as the others.
        round_to: what the group was tried with.
        reason: why it cannot be cut; "" if it can.
    """

    root: str
    channels: int
    coupled: tuple[str, ...]
    parameters: int
    blocks: int
    round_to: int
    reason: str = ""

    @property
    def can_be_cut(self) -> bool:
        """Whether a cut was tried and the model ran and answered as it should."""
        return not self.reason

    def kept(self, ratio: float) -> int:
        """How many of the channels `prune` keeps at this ratio."""
        if self.reason:
            return self.channels
        return self.blocks * kept_a_block(ratio, self.round_to, self.channels // self.blocks, self.blocks)


def groups(model: nn.Module, example: Mapping[str, Array], forward: Forward, round_to: int) -> list[Group]:
    """All groups of a model, in the order of its layers, each tried at about half of its channels; it is unchanged.

    Args:
        example: name → array (n ≥ 1, ...), rows the model can take; two are used.
        forward: (module, name → tensor) → logits, as for training.
        round_to: as for `prune`; a group that it leaves nothing to remove from cannot be cut.

    Raises:
        ModelError: the model cannot be traced.
    """
    rows = two_rows(example)
    with PRUNERS_ARE_SHARED:
        trial = Trial(model, rows, forward, round_to)
        coupled = trial.roots()
        found = [_described(trial, root, names, round_to) for root, names in coupled.items()]
        for root in coupled:
            trial.shrink(root, partial(_least_kept, round_to))
    return [Group(**{**vars(group), "reason": trial.skipped.get(group.root, "")}) for group in found]


def two_rows(example: Mapping[str, Array]) -> dict[str, Tensor]:
    """The first two rows as tensors, which a model is traced with."""
    return {name: torch.from_numpy(np.ascontiguousarray(values[:2])) for name, values in example.items()}


def channels_kept(channels: int, ratio: float, round_to: int) -> int:
    """How many channels a group keeps: the multiple of `round_to` nearest to channels * (1 - ratio), the lower one
    of two equally near, at least one multiple, at most what there is. Falls or stays when the ratio rises."""
    if channels <= round_to:
        return channels
    multiples = math.ceil(channels * (1 - ratio) / round_to - 0.5 - 1e-9)
    return min(channels, max(1, multiples) * round_to)


def kept_a_block(ratio: float, round_to: int, size: int, blocks: int) -> int:
    """The same of each of `blocks` equal blocks of `size` channels, which are rounded together."""
    return channels_kept(size, ratio, step_of(round_to, blocks))


def step_of(round_to: int, blocks: int) -> int:
    """Multiple that each of `blocks` equal blocks keeps, so that together they keep one of about `round_to`."""
    return max(1, round_to // blocks)


def check_ratios(ratios: Mapping[str, float], roots: Mapping[str, set[str]], where: str) -> None:
    """Refuse ratios that are no group's, or none at all.

    Args:
        ratios: root layer → ratio.
        roots: as `Trial.roots` gives them.

    Raises:
        UnsupportedError: with the names.
    """
    for name, ratio in ratios.items():
        owner = next((root for root, coupled in roots.items() if name in coupled), None)
        if owner is None:
            what, fix = f"{name!r} is no layer that starts a group", f"name one of {', '.join(roots) or 'none'}"
        elif owner != name:
            what, fix = f"the channels of {name!r} belong to the group of {owner!r}", f"give a ratio to {owner!r}"
        elif not 0 <= ratio < 1:
            what, fix = f"the ratio {ratio:g} of {name!r} is not from 0 to below 1", "give one that is"
        else:
            continue
        raise UnsupportedError(f"pruning by group: {what}", where=where, fix=fix)


def _least_kept(round_to: int, size: int, blocks: int) -> int:
    """About half; or, where rounding leaves no half, the next that there is."""
    half = kept_a_block(0.5, round_to, size, blocks)
    return half if half < size else kept_a_block(1 - 1e-6, round_to, size, blocks)


def _described(trial: Trial, root: str, coupled: set[str], round_to: int) -> Group:
    layer = trial.model.get_submodule(root)
    channels = int(trial.graph.get_pruner_of_module(layer).get_out_channels(layer))
    names = (root, *sorted(coupled - {root}))
    try:
        group = trial.group(root)
        blocks, cuts = channel_blocks(group), list(trial.cuts(group))
    except Exception:
        # A layer that forward does not reach, or one that Torch-Pruning fails on; `shrink` says which.
        blocks, cuts = 1, []
    return Group(root, channels, names, _elements(trial.model, cuts), blocks, round_to)


def _elements(model: nn.Module, cuts: History) -> int:
    """How many elements of parameters the cuts name, each once."""
    touched: dict[int, Tensor] = {}
    for cut in cuts:
        for tensor, dim, indices in slices(model, cut):
            mask = touched.setdefault(id(tensor), torch.zeros(tensor.shape, dtype=torch.bool))
            mask.index_fill_(dim, torch.tensor(indices), True)
    return sum(int(mask.sum()) for mask in touched.values())
