"""Structured pruning: the channels of least weight are removed whole, with everything that is coupled to them.

Which channels go is decided by their score (see `importance`), what goes with them by the dependency graph (see
`trial`). At ratio 0.5 a group of 4 channels loses the two with the least score, in all layers of the group; with a
ratio for each group (see `groups`) those that are not named stay whole; globally, channels of all groups compete (see
`ranking`). The interface never changes.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from trimtab.compress.count import Reduction, count, parameters_of
from trimtab.compress.gradients import loss_gradients
from trimtab.compress.groups import groups, two_rows
from trimtab.compress.replay import PRUNERS_ARE_SHARED, History, replay
from trimtab.compress.scopes import ByGroup, Global
from trimtab.compress.trial import Trial
from trimtab.data import Split
from trimtab.errors import UnsupportedError
from trimtab.optimize.predicting import Forward
from trimtab.recipe.compressing import Scope
from trimtab.recipe.schema import Norm

Array = np.ndarray


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
    ratio: float | Mapping[str, float],
    round_to: int,
    *,
    data: Split | None = None,
    seed: int = 0,
    scope: Scope = "layer",
    rounds: int = 1,
    settle: Callable[[nn.Module], object] | None = None,
) -> Pruned:
    """Remove about `ratio` of the channels, in place; the output layer is never touched.

    Args:
        example: name → array (n ≥ 1, ...), rows the model can take.
        forward: (module, name → tensor) → logits, as for training.
        norm: the criterion, see `importance`; "bn_scale" leaves groups without batch norm whole.
        ratio: share of each group's channels to remove, 0 ≤ ratio < 1; 0 changes nothing. Or root layer → that of
            its group, see `groups`; groups that are not named stay whole.
        round_to: a group keeps a multiple of this many channels (the nearest, at least one multiple); a group of
            no more than `round_to` channels is left whole. A larger ratio therefore never keeps more channels.
        data: labelled training rows, which "taylor" needs and no other criterion reads.
        seed: of "random", and of the rows that "taylor" draws.
        scope: "layer": each group gives its own share; "global": `ratio` is the share of all channels of groups that
            can be cut, which are ranked together (see `ranking`); some groups may give none.
        rounds: in how many equal steps the ratio is reached; channels are scored anew in each, nothing is trained.
            In more than one a larger ratio can leave more parameters, since other channels may go.
        settle: called with a copy between two rounds, to re-estimate its batch norms.

    Raises:
        UnsupportedError: nothing could be removed; the layer types and reasons are named. Or "taylor" without `data`.
            Or a ratio is of no group, or given by group for the global scope. The model is unchanged.
        ModelError: the model cannot be traced.
    """
    if scope == "global" and isinstance(ratio, Mapping):
        raise UnsupportedError(
            "ratios by group leave nothing to rank globally", where="prune", fix='give one ratio, or take scope "layer"'
        )
    rows = two_rows(example)
    before = count(model, rows, forward)
    if ratio == 0:
        return Pruned([], before, before, [])
    aims: ByGroup | Global = ByGroup(ratio, round_to)
    if scope == "global" and not isinstance(ratio, Mapping):
        aims = Global(ratio, groups(model, example, forward, round_to))
    working = copy.deepcopy(model) if rounds > 1 else model
    history: History = []
    cut: set[str] = set()
    with PRUNERS_ARE_SHARED:
        for number in range(1, rounds + 1):
            gradients = loss_gradients(working, data, forward, seed) if norm == "taylor" else {}
            trial = Trial(working, rows, forward, round_to, norm, seed, gradients)
            cut |= {root for root, keep in aims.keeps(trial, number / rounds).items() if trial.shrink(root, keep)}
            history += trial.history
            if number < rounds:
                replay(working, trial.history)
                if settle is not None:
                    settle(working)
        reasons = {root: why for root, why in aims.reasons(trial).items() if root not in cut}
        skipped = [*(f"{root}: {why}" for root, why in reasons.items()), *_unsupported(model)]
        if aims.asks_for_any and parameters_of(trial.model) == before["parameters"]:
            raise _nothing_removed(model, before["parameters"], skipped)
        replay(model, history)
    return Pruned(history, before, count(model, rows, forward), skipped)


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
