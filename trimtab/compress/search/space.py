"""The space that is searched: blocks in or out, a ratio for each group of channels, the criterion, the order of both.

A first design is tried before any sampler has a say: nothing removed, blocks dropped in the order of how little they
change the answers, every group cut alike, groups cut by what they can bear, and blocks and groups together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import optuna

from trimtab.compress.search.shape import First, Shape
from trimtab.recipe.schema import Norm

Parameters = dict[str, Any]
KEPT, DROPPED, FIRST = "kept", "dropped", "first step"


@dataclass(frozen=True)
class Space:
    """What may be chosen.

    Attributes:
        blocks: droppable block → mean KL divergence (nats) of the answers when it alone is dropped.
        groups: first layer of each dependency group that can be cut → ratio → the same divergence when it alone is.
        norms: criteria to choose from.
    """

    blocks: Mapping[str, float]
    groups: Mapping[str, Mapping[float, float]]
    norms: Sequence[Norm] = ("l2",)

    @property
    def empty(self) -> bool:
        """Whether the original's is the only shape."""
        return not self.blocks and not self.groups

    def suggest(self, trial: optuna.Trial) -> Shape:
        """The shape of a trial; groups inside a dropped block are not asked for."""
        dropped = tuple(b for b in self.blocks if trial.suggest_categorical(f"block {b}", [KEPT, DROPPED]) == DROPPED)
        inside = tuple(f"{block}." for block in dropped)
        asked = {
            root: float(trial.suggest_categorical(f"ratio {root}", [0.0, *ratios]))
            for root, ratios in self.groups.items()
            if not root.startswith(inside)
        }
        ratios = {root: ratio for root, ratio in asked.items() if ratio}
        norm = self.norms[0]
        if ratios and len(self.norms) > 1:
            norm = cast(Norm, trial.suggest_categorical("norm", list(self.norms)))
        first: First = "shorten"
        if ratios and dropped:
            first = cast(First, trial.suggest_categorical(FIRST, ["shorten", "prune"]))
        return Shape(dropped, ratios, norm, first)

    def design(self) -> list[Parameters]:
        """Parameters of the first trials, each once; the shape of the original comes first."""
        order = sorted(self.blocks, key=lambda block: (self.blocks[block], block))
        cuts = [*self._alike(), *self._by_sensitivity()]
        fewer = sorted({0, len(order) // 3, 2 * len(order) // 3})
        shapes: list[tuple[list[str], dict[str, float]]] = [(order[:count], {}) for count in range(len(order) + 1)]
        shapes += [(order[:count], cut) for cut in cuts for count in fewer]
        found = [self._parameters(dropped, cut) for dropped, cut in shapes]
        return [one for index, one in enumerate(found) if one not in found[:index]]

    def _alike(self) -> list[dict[str, float]]:
        ratios = sorted({ratio for known in self.groups.values() for ratio in known})
        return [{root: ratio for root, known in self.groups.items() if ratio in known} for ratio in ratios]

    def _by_sensitivity(self) -> list[dict[str, float]]:
        """Each group at the largest ratio whose divergence is within a bound; the bounds are thirds of all seen."""
        seen = sorted(value for known in self.groups.values() for value in known.values())
        bounds = [seen[len(seen) * third // 3] for third in (1, 2)] if len(seen) >= 3 else []
        cuts = []
        for bound in bounds:
            bearable = {
                root: [r for r, value in known.items() if value <= bound] for root, known in self.groups.items()
            }
            cuts.append({root: max(ratios) for root, ratios in bearable.items() if ratios})
        return cuts

    def _parameters(self, dropped: Sequence[str], ratios: Mapping[str, float]) -> Parameters:
        inside = tuple(f"{block}." for block in dropped)
        blocks = {f"block {block}": DROPPED if block in dropped else KEPT for block in self.blocks}
        cuts = {f"ratio {root}": ratios.get(root, 0.0) for root in self.groups if not root.startswith(inside)}
        order = {FIRST: "shorten"} if dropped and any(cuts.values()) else {}
        return {**blocks, **cuts, **order}
