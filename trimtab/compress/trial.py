"""A copy of a model with its dependency graph, on which cuts are tried one group at a time.

What else must go with a channel is found by the dependency graph (Fang et al. 2023, "DepGraph: Towards Any Structural
Pruning", arXiv:2301.12900). Worked example: in conv1(1→4) → bn1 → conv2(4→8) the filters of conv1, the entries of bn1
and the input planes of conv2 form one group of 4 channels; conv1 is its root.

A group after whose removal the model does not run, answers in another shape, or answers otherwise than with those
channels zeroed, is put back whole. So is one that would cut a weight which two layers share. Answers are all outputs
that a release keeps: the graph begins at each, so that what makes one is never cut.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from trimtab.compress.equivalence import torn, zeroed
from trimtab.compress.gradients import Gradients, hold
from trimtab.compress.importance import channel_blocks, channel_scores
from trimtab.compress.replay import Cut, History, replay
from trimtab.errors import ModelError
from trimtab.optimize.predicting import Forward, everything
from trimtab.recipe.schema import Norm

ROOTS = (nn.modules.conv._ConvNd, nn.Linear)
NOT_RANKED = "no batch norm"
ONLY_OUTPUT = "its channels are the output"
Keep = Callable[[int, int], int]


class Trial:
    """A copy of the model on which groups are removed one by one; use it under `PRUNERS_ARE_SHARED`.

    Args:
        rows: name → tensor (2, ...), rows the model can take.
        forward: (module, name → tensor) → logits.
        round_to: what channel counts are multiples of; named where it leaves nothing to remove.
        norm: what channels are ranked by. seed: of "random".
        gradients: of the uncut model, for "taylor"; else empty.

    Raises:
        ModelError: the model cannot be traced.
    """

    def __init__(
        self,
        model: nn.Module,
        rows: dict[str, Tensor],
        forward: Forward,
        round_to: int,
        norm: Norm = "l1",
        seed: int = 0,
        gradients: Gradients | None = None,
    ) -> None:
        self.original, self.rows, self.forward = model, rows, forward
        self.round_to = round_to
        self.norm, self.seed, self.gradients = norm, seed, gradients or {}
        self.history: History = []
        self.skipped: dict[str, str] = {}
        self._start()
        self.shapes = [tuple(answer.shape) for answer in self._answers()]

    def _start(self) -> None:
        """A fresh copy with the history so far applied, and its dependency graph."""
        self.model = copy.deepcopy(self.original)
        for parameter in self.model.parameters():
            # The graph is read off autograd, which frozen parameters would hide from it.
            parameter.requires_grad_(True)
        hold(self.model, self.gradients)
        replay(self.model, self.history)
        try:
            with torch.enable_grad():
                self.graph = tp.DependencyGraph().build_dependency(
                    self.model,
                    example_inputs=dict(self.rows),
                    forward_fn=lambda model, rows: everything(self.forward, model, rows),
                    # One operation more, so that the last layer is followed by an output node and all that is
                    # coupled to the output can be told by it. What no weight leads to is not part of the graph.
                    output_transform=lambda answers: [one * 1.0 for one in answers if one.grad_fn is not None],
                    verbose=False,
                )
        except Exception as error:
            raise ModelError(
                f"the model cannot be traced for pruning: {type(error).__name__}: {error}",
                where=type(self.original).__name__,
                fix="set compress.prune to null, or see that forward runs on two rows in evaluation mode",
            ) from error
        self.names = {module: name for name, module in self.model.named_modules()}

    def _answers(self) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return everything(self.forward, self.model, self.rows)

    def roots(self) -> dict[str, set[str]]:
        """Name of the layer whose output channels start a group → that and all others that do so; each group once."""
        found: dict[str, set[str]] = {}
        layers = [name for name, module in self.model.named_modules() if isinstance(module, ROOTS)]
        inside = tuple(f"{name}." for name, m in self.model.named_modules() if isinstance(m, nn.MultiheadAttention))
        for name in layers:
            # The output projection of an attention layer is cut with the layer that holds it.
            if not any(name in coupled for coupled in found.values()) and not name.startswith(inside):
                found[name] = {name} | self._coupled(name)
        return found

    def _coupled(self, root: str) -> set[str]:
        try:
            return self._coupled_roots(self.group(root))
        except Exception:
            return set()  # `shrink` meets the same error and reports it

    def _coupled_roots(self, group: Any) -> set[str]:
        outwards = [dep.target.module for dep, _ in group if self.graph.is_out_channel_pruning_fn(dep.handler)]
        return {self.names[module] for module in outwards if isinstance(module, ROOTS)}

    def group(self, root: str, indices: list[int] | None = None) -> Any:
        """Torch-Pruning's group of some channels of a root layer; of all by default."""
        layer = self.model.get_submodule(root)
        pruner = self.graph.get_pruner_of_module(layer)
        chosen = list(range(pruner.get_out_channels(layer))) if indices is None else indices
        return self.graph.get_pruning_group(layer, pruner.prune_out_channels, chosen)

    def ranked(self, root: str) -> tuple[Tensor, int] | None:
        """Scores, float64 (channels a block,), and how many equal blocks there are; None where the norm has none.

        Grouped convolutions and group norm need the same number of channels in each of their blocks, so place i goes
        from all blocks or from none, by its mean score.
        """
        group = self.group(root)
        channels, blocks = len(group[0].idxs), channel_blocks(group)
        scores = channel_scores(group, channels, self.norm, root, self.seed)
        return None if scores is None else (scores.reshape(blocks, channels // blocks).mean(0), blocks)

    def weakest(self, root: str, scores: Tensor, blocks: int, count: int) -> list[int]:
        """Indices, rising, of the `count` weakest places of every block."""
        places = torch.argsort(scores, stable=True)[:count]
        return sorted(int(place) + block * len(scores) for block in range(blocks) for place in places)

    def shrink(self, root: str, keep: Keep) -> bool:
        """Remove the weakest channels of one group, or note in `skipped` why it was left whole.

        Args:
            keep: (channels a block, blocks) → how many channels a block are kept.

        Returns:
            Whether anything was removed.
        """
        checkpoint = len(self.history)
        try:
            reason = self._shrink(root, keep)
        except Exception as error:
            # Whatever the graph or the model raises here means that this group cannot be cut: Torch-Pruning 1.6.1
            # raises IndexError on zero-padded shortcuts, AssertionError on LSTM and attention, the model's own
            # forward raises on sizes that its code fixes.
            reason = f"cannot be cut: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            del self.history[checkpoint:]
            self._start()
        if reason:
            self.skipped[root] = reason
        return not reason

    def whole(self, root: str) -> str:
        """Why a group must be left whole whatever is asked for; "" where nothing is known against a cut."""
        if self.model.get_submodule(root) not in self.graph.module2node:
            return "not reached by forward"
        group = self.group(root)
        if any(dep.target.type == tp.ops.OPTYPE.OUTPUT for dep, _ in group):
            return ONLY_OUTPUT if len(self._coupled_roots(group)) == 1 else "coupled to the output"
        return ""

    def _shrink(self, root: str, keep: Keep) -> str:
        if reason := self.whole(root):
            return reason
        group = self.group(root)
        channels, blocks = len(group[0].idxs), channel_blocks(group)
        size = channels // blocks
        kept = keep(size, blocks)
        if kept >= size:
            inside = f" in {blocks} equal blocks" if blocks > 1 else ""
            return f"{channels} channels{inside} are kept: round_to is {self.round_to}"
        ranked = self.ranked(root)
        if ranked is None:
            return NOT_RANKED
        doomed = self.group(root, self.weakest(root, *ranked, size - kept))
        if not self.graph.check_pruning_group(doomed):
            return "a coupled layer would lose all its channels"
        cuts = list(self.cuts(doomed))
        if shared := torn(self.model, cuts):
            return f"layers share a weight that would be cut: {'; '.join(shared)}"
        expected = zeroed(self.model, cuts, self._answers)
        self.history += cuts
        doomed.prune()
        answers = self._answers()
        for answer, shape in zip(answers, self.shapes, strict=True):
            if answer.shape != shape:
                raise ValueError(f"an output would become {tuple(answer.shape)}, it is {shape}")
        for answer, zeros in zip(answers, expected or answers, strict=True):
            if not torch.allclose(answer, zeros, rtol=1e-3, atol=1e-4):
                raise ValueError(
                    "removing its channels is not the same as zeroing them: they are coupled in another way"
                )
        return ""

    def cuts(self, group: Any) -> Iterator[Cut]:
        """A group as entries of a history, see `replay`."""
        for dep, indices in group:
            target = dep.target
            where = {"side": "out" if self.graph.is_out_channel_pruning_fn(dep.handler) else "in"}
            cut = {"dim": int(target.pruning_dim), "indices": [int(i) for i in indices]}
            if target.type == tp.ops.OPTYPE.PARAMETER:
                yield {"parameter": self.graph._param_to_name[target.module], **cut}
            elif target.module in self.names and indices:
                yield {"layer": self.names[target.module], **where, **cut}
