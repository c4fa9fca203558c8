"""How many channels each group keeps: by its own ratio, or by a ranking of the channels of all groups.

Both are asked once a round, with a trial that has been cut by the rounds before and the share of the way to go by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from trimtab.compress.groups import Group, check_ratios, kept_a_block
from trimtab.compress.ranking import kept_globally, scored
from trimtab.compress.trial import ONLY_OUTPUT, Keep, Trial

OUTRANKED = "its channels rank above all that were removed"


class ByGroup:
    """Each group keeps its own share: of one ratio for all, or of the ratio of each group that is named."""

    def __init__(self, ratio: float | Mapping[str, float], round_to: int) -> None:
        self.ratio, self.round_to = ratio, round_to
        self.named = isinstance(ratio, Mapping)
        self.sizes: dict[str, int] = {}

    @property
    def asks_for_any(self) -> bool:
        """Whether there is anything to remove: a mapping of zeros asks for nothing."""
        return any(self.ratio.values()) if isinstance(self.ratio, Mapping) else True

    def keeps(self, trial: Trial, share: float) -> dict[str, Keep]:
        """Root → what it keeps after this round, in the order of the layers.

        Raises:
            UnsupportedError: a ratio is of no group.
        """
        roots = trial.roots()
        if isinstance(self.ratio, Mapping):
            check_ratios(self.ratio, roots, type(trial.original).__name__)
            ratios = {root: self.ratio[root] for root in roots if self.ratio.get(root)}
        else:
            ratios = dict.fromkeys(roots, self.ratio)
        return {root: partial(self._kept, root, ratio * share) for root, ratio in ratios.items()}

    def _kept(self, root: str, ratio: float, size: int, blocks: int) -> int:
        # Shares are of the channels there were before the first round.
        return kept_a_block(ratio, self.round_to, self.sizes.setdefault(root, size), blocks)

    def reasons(self, trial: Trial) -> dict[str, str]:
        """Root → why it was left whole. That the output layer stays is no news, unless it was named."""
        return {root: why for root, why in trial.skipped.items() if self.named or why != ONLY_OUTPUT}


class Global:
    """The weakest channels of all groups that can be cut go, whichever groups they are in."""

    asks_for_any = True

    def __init__(self, ratio: float, groups: Sequence[Group]) -> None:
        self.ratio = ratio
        self.whole = {group.root: group.reason for group in groups if not group.can_be_cut}
        self.roots = [group.root for group in groups if group.can_be_cut]
        self.channels: int | None = None

    def keeps(self, trial: Trial, share: float) -> dict[str, Keep]:
        """Root → what it keeps after this round; groups that give nothing are left out."""
        known = scored(trial, self.roots)
        now = sum(group.channels for group in known.values())
        self.channels = now if self.channels is None else self.channels
        kept = kept_globally(known, self.ratio * share * self.channels - (self.channels - now), trial.norm)
        return {root: partial(_always, count) for root, count in kept.items() if count < len(known[root].scores)}

    def reasons(self, trial: Trial) -> dict[str, str]:
        """Root → why it was left whole."""
        whole = {root: why for root, why in self.whole.items() if why != ONLY_OUTPUT}
        return {**whole, **dict.fromkeys(self.roots, OUTRANKED), **trial.skipped}


def _always(count: int, _size: int, _blocks: int) -> int:
    return count
