"""What a difference of answers is measured by: 1 and the decision of a classifier; of a regression the answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from trimtab.verify.predictor import Array


@dataclass(frozen=True)
class Scale:
    """The scale of the original's answers.

    Attributes:
        largest: float64 (k,), the largest absolute answer of each output; 1 where all are 0, and of a classifier.
        spread: float64 (k,), standard deviation of the answers.
        tolerance: how many of those an answer may be off and not count as another; None of a classifier.
        beside: name of a further output → its largest absolute value over the rows.
    """

    largest: Array
    spread: Array
    tolerance: float | None
    beside: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, expected: Array, tolerance: float | None, beside: Mapping[str, float] | None = None) -> Scale:
        """Of the original's answers, float (n, k), to all rows."""
        wide = expected.astype(np.float64)
        if tolerance is None:
            return cls(np.ones(wide.shape[1]), np.ones(wide.shape[1]), None, beside or {})
        largest = np.abs(wide).max(axis=0)
        return cls(np.where(largest > 0, largest, 1.0), wide.std(axis=0), tolerance, beside or {})

    def differ(self, expected: Array, given: Array) -> Array:
        """Which rows count as answered otherwise, bool (n,)."""
        if self.tolerance is None:
            return expected.argmax(axis=1) != given.argmax(axis=1)
        return (np.abs(expected.astype(np.float64) - given) > self.tolerance * self.spread).any(axis=1)

    def distance(self, expected: Array, given: Array) -> float:
        """Largest difference; of numbers beyond the range of the rows, relative to themselves."""
        off = np.abs(expected.astype(np.float64) - given)
        if self.tolerance is None:
            return float(off.max())
        return float((off / np.maximum(np.abs(expected.astype(np.float64)), self.largest)).max())
