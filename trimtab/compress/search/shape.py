"""A shape: what a candidate's graph looks like before anything is trained. Its latency does not depend on weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from trimtab.candidate import Step, digest_of
from trimtab.recipe.schema import Norm

First = Literal["shorten", "prune"]
BY_LABELS = ("taylor", "random")  # criteria whose scores depend on the seed


@dataclass(frozen=True)
class Shape:
    """Which blocks are left out, and how much of each group of channels.

    Attributes:
        dropped: names of residual blocks.
        ratios: first layer of a dependency group → share of its channels to remove; a group not named stays whole.
        norm: what channels are ranked by.
        first: which step comes first where there are both. The graph that comes of it is the same; which channels are
            kept is not, since those that a block adds to are ranked with its weights or without them.
    """

    dropped: tuple[str, ...] = ()
    ratios: Mapping[str, float] = field(default_factory=dict)
    norm: Norm = "l2"
    first: First = "shorten"

    @property
    def whole(self) -> bool:
        """Whether it is the original's own."""
        return not self.dropped and not self.ratios

    @property
    def key(self) -> str:
        """What tells shapes apart; the norm counts where channels are removed only, the order where blocks are, too."""
        order = [self.first] if self.dropped and self.ratios and self.first != "shorten" else []
        return digest_of([*self._parts, *order])[:16]

    @property
    def cuts(self) -> str:
        """The same for shapes that differ in the order of their steps only."""
        return digest_of(self._parts)[:16]

    @property
    def _parts(self) -> list[Any]:
        return [sorted(self.dropped), dict(self.ratios), self.norm if self.ratios else None]

    @property
    def label(self) -> str:
        """Short name for people: the labels of its steps, or "uncut"."""
        return " ".join(str(step.parameters["label"]) for step in self.steps(1, 0)) or "uncut"

    def steps(self, round_to: int, seed: int) -> tuple[Step, ...]:
        """What makes it of the original, in its order; no group inside a dropped block has a ratio."""
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
        return tuple(steps if self.first == "shorten" else reversed(steps))

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        return {**asdict(self), "dropped": list(self.dropped)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Shape:
        """The inverse of `to_json`."""
        return cls(tuple(value["dropped"]), dict(value["ratios"]), value["norm"], value.get("first", "shorten"))
