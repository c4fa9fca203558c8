"""Accuracy with exact intervals: of one model, and of a candidate against the original on the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import binomtest

from trimtab.candidate import Interval, Json
from trimtab.errors import DataError
from trimtab.intervals import exact
from trimtab.verify.trinomial import difference_limits
from trimtab.verify.words import percent, points

Array = np.ndarray


@dataclass(frozen=True)
class Paired:
    """Two models on the same rows.

    Attributes:
        original, candidate: accuracy of each, Clopper-Pearson interval.
        difference: candidate - original, exact interval of the paired design (see `trinomial`).
        lost: rows only the original gets right. gained: rows only the candidate gets right.
        mcnemar_p: exact two-sided p-value of "lost and gained are equally likely" (McNemar 1947, binomial form).
    """

    original: Interval
    candidate: Interval
    difference: Interval
    lost: int
    gained: int
    mcnemar_p: float

    @property
    def name(self) -> str:
        """The metric as it is written."""
        return "accuracy"

    def show(self, value: float) -> str:
        """A figure of the metric, e.g. "98.2 %"."""
        return percent(value)

    def amount(self, difference: float) -> str:
        """A difference in words, e.g. "−1.23 points"."""
        return f"{points(difference)} points"

    def bare(self, difference: float) -> str:
        """The same without the word, where it was said before."""
        return points(difference)

    def within(self, limit: float) -> str:
        """What meets a limit is, in words."""
        return f"at or above {points(limit)}"

    @property
    def counts(self) -> str:
        """Rows lost and gained, in words."""
        return f"{self.lost} lost, {self.gained} gained of {self.difference.n} rows"

    def to_json(self) -> dict[str, Json]:
        """Plain dict, JSON-safe."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Paired:
        """The inverse of `to_json`."""
        intervals = {key: Interval(**value[key]) for key in ("original", "candidate", "difference")}
        return cls(**intervals, lost=value["lost"], gained=value["gained"], mcnemar_p=value["mcnemar_p"])


def paired(original_correct: Array, candidate_correct: Array, confidence: float) -> Paired:
    """Compare two models row by row.

    Args:
        original_correct, candidate_correct: bool (n,), whether each row was answered right; same rows, same order.
        confidence: of each interval; corrected by the caller where several candidates try the gate.

    Raises:
        DataError: no rows, or arrays of different length.
    """
    original, candidate = np.asarray(original_correct, bool), np.asarray(candidate_correct, bool)
    if original.shape != candidate.shape or original.ndim != 1 or not len(original):
        raise DataError(
            f"{original.shape} and {candidate.shape} are not the same rows twice",
            fix="predict the same non-empty split with both models",
        )
    lost, gained = int((original & ~candidate).sum()), int((~original & candidate).sum())
    return from_counts(int((original & candidate).sum()), lost, gained, len(original), confidence)


def from_counts(both: int, lost: int, gained: int, n: int, confidence: float) -> Paired:
    """`paired` from counts: rows both get right, only the original does, only the candidate does, and all rows."""
    low, high = difference_limits(lost, gained, n, confidence)
    discordant = lost + gained
    return Paired(
        original=exact(both + lost, n, confidence),
        candidate=exact(both + gained, n, confidence),
        difference=Interval((gained - lost) / n, low, high, n, confidence),
        lost=lost,
        gained=gained,
        mcnemar_p=float(binomtest(lost, discordant).pvalue) if discordant else 1.0,
    )
