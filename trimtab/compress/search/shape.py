"""A shape: what a candidate's graph looks like before anything is trained. Its latency does not depend on weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from trimtab.candidate import Step, digest_of
from trimtab.recipe.schema import Norm

BY_LABELS = ("taylor", "random")  # criteria whose scores depend on the seed


@dataclass(frozen=True)
class Shape:
    """Which blocks are left out, and how much of each group of channels.

    Attributes:
        dropped: names of residual blocks.
        ratios: first layer of a dependency group → share of its channels to remove; a group not named stays whole.
        norm: what channels are ranked by.
    """

    dropped: tuple[str, ...] = ()
    ratios: Mapping[str, float] = field(default_factory=dict)
    norm: Norm = "l2"

    @property
    def whole(self) -> bool:
        """Whether it is the original's own."""
        return not self.dropped and not self.ratios

    @property
    def key(self) -> str:
        """What tells shapes apart; the norm counts where channels are removed only."""
        return digest_of([sorted(self.dropped), dict(self.ratios), self.norm if self.ratios else None])[:16]

    @property
    def label(self) -> str:
        """Short name for people: the labels of its steps, or "uncut"."""
        return " ".join(str(step.parameters["label"]) for step in self.steps(1, 0)) or "uncut"

    def steps(self, round_to: int, seed: int) -> tuple[Step, ...]:
        """What makes it of the original: blocks first, so that no group inside a dropped one is looked for."""
        steps = []
        if self.dropped:
            names = sorted(self.dropped)
            label = f"shorten-{len(names)}.{digest_of(names)[:3]}"
            steps.append(Step("shorten", {"drop": names, "label": label}))
        if self.ratios:
            ratios = dict(sorted(self.ratios.items()))
            label = f"prune-{self.norm}-{len(ratios)}.{digest_of(ratios)[:3]}"
            parameters = {"norm": self.norm, "ratios": ratios, "round_to": round_to, "label": label}
            steps.append(Step("prune", parameters, seed if self.norm in BY_LABELS else None))
        return tuple(steps)

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        return {**asdict(self), "dropped": list(self.dropped)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Shape:
        """The inverse of `to_json`."""
        return cls(tuple(value["dropped"]), dict(value["ratios"]), value["norm"])
