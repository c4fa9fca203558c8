"""Global scope: the channels of all groups are ranked together, so a group that matters little gives more of them.

Scores of different groups are made comparable first. Norms, batch-norm scales and chance are divided by the mean score
of their group, as Torch-Pruning does by default (`normalizer="mean"`; Fang et al. 2023, arXiv:2301.12900). Taylor
scores are left as they are: each is an effect on the same loss, which is what makes them comparable between layers
(Molchanov et al. 2019, arXiv:1906.10771).

Channels go in lots that keep a group a multiple of `round_to`: the weakest `round_to` of a group are its first lot, the
next its second, and the last multiple is never given up. Lots of all groups go in the order of their mean score.
Worked example with round_to 2: scores 1 2 3 6 and 2 2 8 8 have means 3 and 5; their first lots weigh 0.5 and 0.4.
At ratio 0.25, 2 of the 8 channels, the second group gives its lot; at 0.5 the first gives its own too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from trimtab.compress.groups import step_of
from trimtab.compress.trial import NOT_RANKED, Trial
from trimtab.recipe.schema import Norm


@dataclass(frozen=True)
class Scored:
    """What is known of a group when channels are ranked.

    Attributes:
        scores: float64 (channels a block,), those of one place in every block already averaged.
        blocks: equal blocks the channels lie in.
        step: multiple that the channels of a block are kept at.
    """

    scores: Tensor
    blocks: int
    step: int

    @property
    def channels(self) -> int:
        """How many channels the group has."""
        return len(self.scores) * self.blocks


def scored(trial: Trial, roots: Iterable[str]) -> dict[str, Scored]:
    """The groups of a trial as they are now; those that its norm cannot rank are noted in its `skipped`."""
    found = {}
    for root in roots:
        ranked = trial.ranked(root)
        if ranked is None:
            trial.skipped[root] = NOT_RANKED
        else:
            found[root] = Scored(*ranked, step=step_of(trial.round_to, ranked[1]))
    return found


@dataclass(frozen=True)
class _Lot:
    """Channels of a group that go together: `count` of each block, `place` of them left before this lot goes."""

    score: float
    root: str
    place: int
    count: int
    channels: int


def kept_globally(groups: Mapping[str, Scored], remove: float, norm: Norm) -> dict[str, int]:
    """Root → how many channels of each block are kept.

    Args:
        groups: root → scores of its channels.
        remove: how many channels to remove over all groups; the number of whole lots nearest to it goes, so more are
            never kept for a larger one.
    """
    lots = [lot for root, group in groups.items() for lot in _lots(root, group, norm)]
    kept = {root: len(group.scores) for root, group in groups.items()}
    removed = 0
    # The order is that of the scores; within a group they rise, and `place` keeps equal ones in turn.
    for lot in sorted(lots, key=lambda lot: (lot.score, lot.root, -lot.place)):
        if remove - removed < lot.channels / 2:
            break
        kept[lot.root] -= lot.count
        removed += lot.channels
    return kept


def _lots(root: str, group: Scored, norm: Norm) -> list[_Lot]:
    ordered = torch.sort(group.scores).values
    mean = float(ordered.mean())
    weights = ordered if norm == "taylor" or mean == 0 else ordered / mean
    lots = []
    left = len(ordered)
    while left > group.step:
        count = left % group.step or group.step
        start = len(ordered) - left
        score = float(weights[start : start + count].mean())
        lots.append(_Lot(score, root, left, count, count * group.blocks))
        left -= count
    return lots
