"""Structured pruning: the channels of least weight are removed whole, with everything that is coupled to them.

Which channels go is decided by their score (see `importance`), what goes with them by the dependency graph (see
`trial`). At ratio 0.5 a group of 4 channels loses the two with the least score, in all layers of the group; with a
ratio for each group (see `groups`) those that are not named stay whole. The interface never changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import nn

from trimtab.compress.count import Reduction, count, parameters_of
from trimtab.compress.gradients import loss_gradients
from trimtab.compress.groups import check_ratios, kept_a_block, two_rows
from trimtab.compress.replay import PRUNERS_ARE_SHARED, replay
from trimtab.compress.trial import ONLY_OUTPUT, Trial
from trimtab.data import Split
from trimtab.errors import UnsupportedError
from trimtab.optimize.predicting import Forward
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
) -> Pruned:
    """Remove about `ratio` of the channels of every group, in place; the output layer is never touched.

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

    Raises:
        UnsupportedError: nothing could be removed; the layer types and reasons are named. Or "taylor" without `data`.
            Or a ratio is of no group. The model is unchanged.
        ModelError: the model cannot be traced.
    """
    rows = two_rows(example)
    before = count(model, rows, forward)
    if ratio == 0:
        return Pruned([], before, before, [])
    gradients = loss_gradients(model, data, forward, seed) if norm == "taylor" else {}
    with PRUNERS_ARE_SHARED:
        trial = Trial(model, rows, forward, round_to, norm, seed, gradients)
        ratios = _ratios(trial, ratio)
        for root, share in ratios.items():
            trial.shrink(root, partial(kept_a_block, share, round_to))
        skipped = _skipped(trial, ratio) + _unsupported(model)
        asked = bool(ratios) or not isinstance(ratio, Mapping)
        if asked and parameters_of(trial.model) == before["parameters"]:
            raise _nothing_removed(model, before["parameters"], skipped)
        replay(model, trial.history)
    return Pruned(trial.history, before, count(model, rows, forward), skipped)


def _ratios(trial: Trial, ratio: float | Mapping[str, float]) -> dict[str, float]:
    """Root → ratio of the groups that are to be cut, in the order of the layers.

    Raises:
        UnsupportedError: a ratio is of no group.
    """
    roots = trial.roots()
    if not isinstance(ratio, Mapping):
        return dict.fromkeys(roots, ratio)
    check_ratios(ratio, roots, type(trial.original).__name__)
    return {root: ratio[root] for root in roots if ratio.get(root)}


def _skipped(trial: Trial, ratio: float | Mapping[str, float]) -> list[str]:
    # That the output layer stays is no news, unless it was named.
    reasons = {r: why for r, why in trial.skipped.items() if isinstance(ratio, Mapping) or why != ONLY_OUTPUT}
    return [f"{root}: {why}" for root, why in reasons.items()]


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
