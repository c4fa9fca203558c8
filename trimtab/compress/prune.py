"""Structured pruning: the channels of least weight are removed whole, with everything that is coupled to them.

Which channels go is decided by their score (see `importance`). What else must go with a channel is found by the
dependency graph (Fang et al. 2023, "DepGraph: Towards Any Structural Pruning", arXiv:2301.12900). Worked example: in
conv1(1→4) → bn1 → conv2(4→8) the filters of conv1, the entries of bn1 and the input planes of conv2 form one group of
4 channels; at ratio 0.5 the two with the least score are taken out of all three.

Every group is tried on a copy first: a group after whose removal the model does not run, answers in another shape, or
answers otherwise than with those channels zeroed, is left whole and reported. So is one that would cut a weight which
two layers share, since the layers would be torn apart. So the interface never changes.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn

from trimtab.compress.count import Reduction, count, parameters_of
from trimtab.compress.equivalence import torn, zeroed
from trimtab.compress.gradients import Gradients, hold, loss_gradients
from trimtab.compress.importance import channel_blocks, channel_scores
from trimtab.compress.replay import PRUNERS_ARE_SHARED, Cut, History, replay
from trimtab.data import Split
from trimtab.errors import ModelError, UnsupportedError
from trimtab.optimize.predicting import Forward
from trimtab.recipe.schema import Norm

Array = np.ndarray
ROOTS = (nn.modules.conv._ConvNd, nn.Linear)


@dataclass(frozen=True)
class Pruned(Reduction):
    """What a pruning did.

    Attributes:
        skipped: "layer: reason" for each group that was left whole.
    """

    skipped: list[str]


def prune(
    model: nn.Module,
    example: Mapping[str, Array],
    forward: Forward,
    norm: Norm,
    ratio: float,
    round_to: int,
    *,
    data: Split | None = None,
    seed: int = 0,
) -> Pruned:
    """Remove about `ratio` of the channels of every group, in place; the output layer is never touched.

    Args:
        example: name → array (n ≥ 1, ...), rows the model can take.
        forward: (module, name → tensor) → logits, as for training.
        norm: the criterion, see `importance`; "bn_scale" leaves groups without batch norm whole.
        ratio: share of each group's channels to remove, 0 ≤ ratio < 1; 0 changes nothing.
        round_to: a group keeps a multiple of this many channels (the nearest, at least one multiple); a group of
            no more than `round_to` channels is left whole. A larger ratio therefore never keeps more channels.
        data: labelled training rows, which "taylor" needs and no other criterion reads.
        seed: of "random", and of the rows that "taylor" draws.

    Raises:
        UnsupportedError: nothing could be removed; the layer types and reasons are named. Or "taylor" without `data`.
            The model is unchanged.
        ModelError: the model cannot be traced.
    """
    rows = {name: torch.from_numpy(np.ascontiguousarray(values[:2])) for name, values in example.items()}
    before = count(model, rows, forward)
    if ratio == 0:
        return Pruned([], before, before, [])
    gradients = loss_gradients(model, data, forward, seed) if norm == "taylor" else {}
    with PRUNERS_ARE_SHARED:
        trial = _Trial(model, rows, forward, _Criterion(norm, seed, gradients))
        for root in trial.roots():
            trial.shrink(root, ratio, round_to)
        trial.skipped += _unsupported(model)
        removed = before["parameters"] - parameters_of(trial.model)
        if removed == 0:
            raise _nothing_removed(model, before["parameters"], trial.skipped)
        replay(model, trial.history)
    return Pruned(trial.history, before, count(model, rows, forward), trial.skipped)


def channels_kept(channels: int, ratio: float, round_to: int) -> int:
    """How many channels a group keeps: the multiple of `round_to` nearest to channels * (1 - ratio), the lower one
    of two equally near, at least one multiple, at most what there is. Falls or stays when the ratio rises."""
    if channels <= round_to:
        return channels
    multiples = math.ceil(channels * (1 - ratio) / round_to - 0.5 - 1e-9)
    return min(channels, max(1, multiples) * round_to)


@dataclass(frozen=True)
class _Criterion:
    """What channels are ranked by; `gradients` of the uncut model are empty unless the norm is "taylor"."""

    norm: Norm
    seed: int
    gradients: Gradients


class _Trial:
    """A copy of the model on which groups are removed one by one."""

    def __init__(self, model: nn.Module, rows: dict[str, Tensor], forward: Forward, criterion: _Criterion) -> None:
        self.original, self.rows, self.forward, self.criterion = model, rows, forward, criterion
        self.history: History = []
        self.skipped: list[str] = []
        self._start()
        self.shape = self._answer().shape

    def _start(self) -> None:
        """A fresh copy with the history so far applied, and its dependency graph."""
        self.model = copy.deepcopy(self.original)
        for parameter in self.model.parameters():
            # The graph is read off autograd, which frozen parameters would hide from it.
            parameter.requires_grad_(True)
        hold(self.model, self.criterion.gradients)
        replay(self.model, self.history)
        try:
            with torch.enable_grad():
                self.graph = tp.DependencyGraph().build_dependency(
                    self.model,
                    example_inputs=dict(self.rows),
                    forward_fn=self.forward,
                    # One operation more, so that the last layer is followed by an output node and all that is
                    # coupled to the output can be told by it.
                    output_transform=lambda answer: answer * 1.0,
                    verbose=False,
                )
        except Exception as error:
            raise ModelError(
                f"the model cannot be traced for pruning: {type(error).__name__}: {error}",
                where=type(self.original).__name__,
                fix="set compress.prune to null, or see that forward runs on two rows in evaluation mode",
            ) from error
        self.names = {module: name for name, module in self.model.named_modules()}

    def _answer(self) -> Tensor:
        with torch.no_grad():
            return self.forward(self.model, self.rows)

    def roots(self) -> Iterator[str]:
        """Names of layers whose output channels start a group; each group once."""
        seen: set[str] = set()
        layers = [name for name, module in self.model.named_modules() if isinstance(module, ROOTS)]
        inside = tuple(f"{name}." for name, m in self.model.named_modules() if isinstance(m, nn.MultiheadAttention))
        for name in layers:
            # The output projection of an attention layer is cut with the layer that holds it.
            if name not in seen and not name.startswith(inside):
                seen |= self._coupled(name)
                yield name

    def _coupled(self, root: str) -> set[str]:
        try:
            group = self._group(root)
        except Exception:
            return set()  # `shrink` meets the same error and reports it
        return self._coupled_roots(group)

    def _coupled_roots(self, group: Any) -> set[str]:
        outwards = [dep.target.module for dep, _ in group if self.graph.is_out_channel_pruning_fn(dep.handler)]
        return {self.names[module] for module in outwards if isinstance(module, ROOTS)}

    def _group(self, root: str, indices: list[int] | None = None) -> Any:
        layer = self.model.get_submodule(root)
        pruner = self.graph.get_pruner_of_module(layer)
        chosen = list(range(pruner.get_out_channels(layer))) if indices is None else indices
        return self.graph.get_pruning_group(layer, pruner.prune_out_channels, chosen)

    def shrink(self, root: str, ratio: float, round_to: int) -> None:
        """Remove the weakest channels of one group, or note why it was left whole."""
        checkpoint = len(self.history)
        try:
            reason = self._shrink(root, ratio, round_to)
        except Exception as error:
            # Whatever the graph or the model raises here means that this group cannot be cut: Torch-Pruning 1.6.1
            # raises IndexError on zero-padded shortcuts, AssertionError on LSTM and attention, the model's own
            # forward raises on sizes that its code fixes.
            reason = f"cannot be cut: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            del self.history[checkpoint:]
            self._start()
        if reason:
            self.skipped.append(f"{root}: {reason}")

    def _shrink(self, root: str, ratio: float, round_to: int) -> str:
        if self.model.get_submodule(root) not in self.graph.module2node:
            return "not reached by forward"
        group = self._group(root)
        if any(dep.target.type == tp.ops.OPTYPE.OUTPUT for dep, _ in group):
            # The output layer alone is no news; layers coupled to it by a sum or a concatenation are.
            return "" if len(self._coupled_roots(group)) == 1 else "coupled to the output"
        channels = len(group[0].idxs)
        blocks = channel_blocks(group)
        size = channels // blocks
        # Grouped convolutions and group norm need the same number of channels in each of their blocks.
        kept = channels_kept(size, ratio, max(1, round_to // blocks))
        if kept == size:
            inside = f" in {blocks} equal blocks" if blocks > 1 else ""
            return f"{channels} channels{inside} are kept: round_to is {round_to}"
        scores = channel_scores(group, channels, self.criterion.norm, root, self.criterion.seed)
        if scores is None:
            return "no batch norm"
        weakest = torch.argsort(scores.reshape(blocks, size).mean(0), stable=True)[: size - kept]
        indices = sorted(int(i) + block * size for block in range(blocks) for i in weakest)
        doomed = self._group(root, indices)
        if not self.graph.check_pruning_group(doomed):
            return "a coupled layer would lose all its channels"
        cuts = list(self._cuts(doomed))
        if shared := torn(self.model, cuts):
            return f"layers share a weight that would be cut: {'; '.join(shared)}"
        expected = zeroed(self.model, cuts, self._answer)
        self.history += cuts
        doomed.prune()
        answer = self._answer()
        if answer.shape != self.shape:
            raise ValueError(f"the output would become {tuple(answer.shape)}, it is {tuple(self.shape)}")
        if expected is not None and not torch.allclose(answer, expected, rtol=1e-3, atol=1e-4):
            raise ValueError("removing its channels is not the same as zeroing them: they are coupled in another way")
        return ""

    def _cuts(self, group: Any) -> Iterator[Cut]:
        for dep, indices in group:
            target = dep.target
            where = {"side": "out" if self.graph.is_out_channel_pruning_fn(dep.handler) else "in"}
            cut = {"dim": int(target.pruning_dim), "indices": [int(i) for i in indices]}
            if target.type == tp.ops.OPTYPE.PARAMETER:
                yield {"parameter": self.graph._param_to_name[target.module], **cut}
            elif target.module in self.names and indices:
                yield {"layer": self.names[target.module], **where, **cut}


def _unsupported(model: nn.Module) -> list[str]:
    recurrent = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.RNNBase)]
    # Torch-Pruning 1.6.1 cuts the gates of an LSTM in the wrong places, and knows no GRU.
    return [f"{name}: hidden units of {type(module).__name__} cannot be cut" for name, module in recurrent]


def _nothing_removed(model: nn.Module, parameters: int, skipped: list[str]) -> UnsupportedError:
    holders = [m for m in model.modules() if any(True for _ in m.parameters(recurse=False))]
    types = Counter(type(module).__name__ for module in holders)
    layers = ", ".join(f"{count} {name}" for name, count in sorted(types.items()))
    reasons = "; ".join(skipped) or "no convolution or linear layer before the output layer"
    return UnsupportedError(
        f"0 of {parameters} parameters removed: layer type not supported or nothing to spare ({layers}): {reasons}",
        where=type(model).__name__,
        fix="set compress.prune to null for this model, or lower compress.prune.round_to",
    )
