"""Has the original seen its validation rows? It has where it answers them better than the gate's, beyond chance.

Weights that came with a model may have been trained on rows that the recipe calls validation. The original is then
better there than it is on new rows, a compressed candidate forgets part of that, and every drop on validation looks
larger than it is on the gate. A gate whose rows are harder by themselves looks the same from here: this is a hint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import hypergeom

from trimtab.candidate import Interval, Json
from trimtab.verify.accuracy import exact
from trimtab.verify.words import percent, points

Array = np.ndarray
ALPHA = 0.001  # chance of a finding where there is none
LEAST = 0.02  # share: with many rows a difference too small to matter is beyond chance too
ROUNDING = 1e-12


@dataclass(frozen=True)
class Seen:
    """The original on two splits.

    Attributes:
        validation, gate: its accuracy there, Clopper-Pearson interval.
        p_value: one-sided, of "it is no better on validation" (Fisher's exact test).
    """

    validation: Interval
    gate: Interval
    p_value: float

    @property
    def found(self) -> bool:
        """Whether it is better on validation by more than chance allows, and by enough to matter."""
        return self.p_value < ALPHA and self.validation.value - self.gate.value >= LEAST - ROUNDING

    def sentence(self) -> str:
        """Both figures, and what follows."""
        validation, gate = self.validation, self.gate
        figures = (
            f"the original is right on {percent(validation.value, 2)} of {validation.n:,} validation rows and on "
            f"{percent(gate.value, 2)} of {gate.n:,} gate rows ({points(validation.value - gate.value)} points, "
            f"one-sided p = {self.p_value:.2g})"
        )
        if not self.found:
            return f"{figures}: no sign that it was trained on its validation rows"
        return (
            f"{figures}: it was trained on its validation rows, or the gate is harder. In the first case drops on "
            "validation are over-estimated, because the original has seen these rows; those on the gate are not"
        )

    def to_json(self) -> dict[str, Json]:
        """Plain dict, JSON-safe."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Seen:
        """The inverse of `to_json`."""
        return cls(Interval(**value["validation"]), Interval(**value["gate"]), value["p_value"])


def has_seen(validation: Array, gate: Array, confidence: float) -> Seen:
    """Compare the original's accuracy on two splits of different rows.

    Args:
        validation, gate: bool (n,), whether each row of the split was answered right.
        confidence: of the two intervals, which are shown; the test has its own level.

    Raises:
        DataError: a split without rows.
    """
    hits, n = int(np.sum(validation)), len(validation)
    others, m = int(np.sum(gate)), len(gate)
    first, second = exact(hits, n, confidence), exact(others, m, confidence)
    return Seen(first, second, float(hypergeom.sf(hits - 1, n + m, hits + others, n)))
