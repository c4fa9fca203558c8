"""The upper tail of a null distribution from a few hundred or thousand draws, so that small levels need not millions.

Draws above the 90 % quantile are modelled by a generalized Pareto distribution (Pickands 1975), fitted by probability-
weighted moments (Hosking and Wallis 1987). Two choices keep errors on the side of too few alarms: the shape is never
below 0 (exponential), and the scale is raised by its standard error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
BODY = 0.9
STEEPEST = 0.5
BARELY = 1e-9  # of a value: what is above a draw, where few distinct ones leave nothing between them


@dataclass(frozen=True)
class Tail:
    """A fitted null distribution of a score that is 0 or more.

    Attributes:
        draws: float64 (b,), sorted.
        start: where the modelled tail begins; beyond: share of draws above it.
        scale, shape: of the generalized Pareto distribution of what is above `start`, shape ≥ 0.
    """

    draws: Array
    start: float
    beyond: float
    scale: float
    shape: float

    @classmethod
    def fit(cls, draws: Array) -> Tail:
        """The distribution that these draws come from, float64 (b,), b ≥ 20."""
        ordered = np.sort(draws)
        start = float(ordered[int(BODY * len(ordered))])
        above = ordered[ordered > start] - start
        if len(above) < 2:  # few distinct values, the largest of which is not rare
            return cls(ordered, start, len(above) / len(ordered), 0.0, 0.0)
        mean = float(above.mean())
        rank = (np.arange(1, len(above) + 1) - 0.35) / len(above)
        weighted = float(((1 - rank) * above).mean())
        shape = min(STEEPEST, max(0.0, 2 - mean / (mean - 2 * weighted))) if mean > 2 * weighted else 0.0
        scale = mean * (1 - shape) * (1 + 1 / math.sqrt(len(above)))
        return cls(ordered, start, len(above) / len(ordered), scale, shape)

    def p(self, value: float) -> float:
        """Probability of a draw of this value or more."""
        if value <= self.start:
            at_least = len(self.draws) - int(np.searchsorted(self.draws, value, "left"))
            return (1 + at_least) / (1 + len(self.draws))
        if self.scale == 0:
            return 1 / (1 + len(self.draws))
        excess = (value - self.start) / self.scale
        rest = math.exp(-excess) if self.shape == 0 else (1 + self.shape * excess) ** (-1 / self.shape)
        return self.beyond * rest

    def threshold(self, level: float) -> float:
        """The least value whose probability is `level` or below."""
        if level >= self.beyond or self.scale == 0:
            allowed = math.floor(level * (1 + len(self.draws)) - 1)
            place = len(self.draws) - 1 - max(allowed, 0)
            return _above(float(self.draws[place])) if place >= 0 else 0.0
        ratio = self.beyond / level
        excess = math.log(ratio) if self.shape == 0 else (ratio**self.shape - 1) / self.shape
        return max(self.start + self.scale * excess, _above(self.start))


def _above(value: float) -> float:
    return value * (1 + BARELY) + BARELY**2
