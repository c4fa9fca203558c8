"""What a cut in one group alone does to the answers: the sensitivity of a network, a group at a time.

One pass over a few rows for each group and ratio, no retraining, as in section 3.1 of Li et al. 2017, "Pruning Filters
for Efficient ConvNets", arXiv:1608.08710; instead of the accuracy, which needs labels and moves in steps, it is the
divergence of the answers from the whole network's. Batch norms keep the statistics they have. Groups act on one
another, so the figures order groups and ratios; their sum does not foretell what cutting all of them does.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from trimtab.compress.divergence import divergence_of, log_probabilities
from trimtab.compress.equivalence import zeroed
from trimtab.compress.gradients import loss_gradients
from trimtab.compress.groups import Group
from trimtab.compress.replay import PRUNERS_ARE_SHARED, replay
from trimtab.compress.trial import Trial
from trimtab.data import Split
from trimtab.optimize.predicting import Forward
from trimtab.recipe.schema import Norm


def channel_sensitivity(
    model: nn.Module,
    rows: dict[str, Tensor],
    forward: Forward,
    groups: Sequence[Group],
    ratios: Sequence[float],
    norm: Norm,
    *,
    data: Split | None = None,
    seed: int = 0,
) -> dict[str, dict[float, float]]:
    """Mean KL divergence of the answers from the uncut model's with the weakest channels of one group gone, in nats.

    The channels are those that `prune` would remove at the ratio. Their weights are zeroed, which is the same; where
    it is not (norms over channels, attention), they are removed from a copy. The model is unchanged.

    Args:
        rows: name → tensor (n ≥ 2, ...); the mean is over all of them.
        forward: (module, name → tensor) → logits (n, classes).
        groups: of this model; those that cannot be cut are left out.
        ratios: 0 ≤ ratio < 1.
        norm, data, seed: as for `prune`.

    Returns:
        Root → ratio, rising → divergence. It never falls: where removing more comes out better by chance, the larger
        figure of the smaller ratio stands. Groups that the norm cannot rank are left out.

    Raises:
        ModelError: the model cannot be traced or run.
        UnsupportedError: "taylor" without `data`.
    """
    gradients = loss_gradients(model, data, forward, seed) if norm == "taylor" else {}
    original = log_probabilities(model, rows, forward)
    found: dict[str, dict[float, float]] = {}
    with PRUNERS_ARE_SHARED:
        two = {name: value[:2] for name, value in rows.items()}
        trial = Trial(model, two, forward, 1, norm, seed, gradients)
        for group in groups:
            ranked = trial.ranked(group.root) if group.can_be_cut else None
            if ranked is None:
                continue
            curve = found[group.root] = {}
            reached, worst = group.channels, 0.0
            for ratio in sorted(set(ratios)):
                if (kept := group.kept(ratio)) < reached:
                    gone = trial.weakest(group.root, *ranked, (group.channels - kept) // group.blocks)
                    worst = max(worst, divergence_of(original, _without(trial, group.root, gone, rows)))
                    reached = kept
                curve[ratio] = worst
    return found


def _without(trial: Trial, root: str, indices: list[int], rows: dict[str, Tensor]) -> Tensor:
    """Log-probabilities without these channels of a group."""
    cuts = list(trial.cuts(trial.group(root, indices)))
    answer = zeroed(trial.model, cuts, lambda: log_probabilities(trial.model, rows, trial.forward))
    if answer is None:
        answer = log_probabilities(replay(copy.deepcopy(trial.model), cuts), rows, trial.forward)
    return answer
