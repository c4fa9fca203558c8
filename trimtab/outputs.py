"""Which outputs of a module a release keeps: the one that decides, and others beside it under names of their own.

A path says where in what `forward` returns: keys, fields and places joined by dots.

    {"head": {"logits": a}, "hidden": (b, c)}   →   head.logits, hidden.0, hidden.1

The one that decides (the logits, or a regression's numbers) is what training, compression, the gate and monitoring are
about. In spec.json and in what a predictor answers it is the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trimtab.task import PREDICTION, PROBABILITIES

OURS = (PROBABILITIES, PREDICTION)


@dataclass(frozen=True)
class Outputs:
    """What is taken of a module's answer.

    Attributes:
        answer: path of the output that decides; None where `forward` returns one tensor and nothing else.
        also: name in the release → path, of those kept beside it.
    """

    answer: str | None = None
    also: Mapping[str, str] = field(default_factory=dict)

    @property
    def deciding(self) -> Outputs:
        """The same without those that are kept beside it."""
        return Outputs(self.answer)


ONE = Outputs()
