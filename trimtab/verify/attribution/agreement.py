"""Do two models answer for the same reasons: how alike their attributions are, row by row.

Two figures a row. Spearman's rank correlation of all regions, signs and all: 1 where both order them alike, 0 where one
tells nothing of the other. And the share of the `k` regions that weigh most in one (whichever way) that are also among
the k of the other; by chance it is k over the number of regions. Both are averaged over rows, with Student's interval.

A row on which nothing that is taken away changes the answer of either model gives no order to compare and is left out;
where that is so of one model only, its figures are 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import spearmanr, t

from trimtab.candidate import Interval, Json
from trimtab.errors import DataError

Array = np.ndarray
TOP_SHARE = 0.1
LEAST_TOP = 3
SHOWN = 4  # rows whose attributions are kept for pictures


@dataclass(frozen=True)
class Example:
    """One row of the split with both attributions, one value a region.

    Attributes:
        decided: the original's class; of a regression which of its numbers.
    """

    row: int
    decided: int
    correlation: float
    overlap: float
    original: tuple[float, ...]
    candidate: tuple[float, ...]


@dataclass(frozen=True)
class Agreement:
    """A candidate's attributions against the original's.

    Attributes:
        method: "occlusion" or "integrated_gradients". regions: how many parts an input has.
        correlation: mean of Spearman's rank correlation over rows, -1 … 1. overlap: of the `top` regions, 0 … 1.
        without: rows left out because nothing changes their answer.
        examples: the least alike, and others evenly to the most alike.
        note: what the reader has to know of how it was taken, or "".
    """

    method: str
    regions: int
    top: int
    correlation: Interval
    overlap: Interval
    without: int
    examples: tuple[Example, ...]
    note: str = ""

    @property
    def samples(self) -> int:
        """Rows that were explained, those left out among them."""
        return self.correlation.n + self.without

    def sentence(self) -> str:
        """Both figures with their intervals."""
        rank, share = self.correlation, self.overlap
        return (
            f"on {rank.n} rows the attributions of original and candidate have a mean rank correlation of "
            f"{rank.value:.3f} ({100 * rank.confidence:.4g} % interval {rank.low:.3f} to {rank.high:.3f}); of the "
            f"{self.top} parts that weigh most {100 * share.value:.0f} % are the same ({100 * share.low:.0f} % to "
            f"{100 * share.high:.0f} %; {100 * self.top / self.regions:.0f} % would be by chance)"
        )

    def to_json(self) -> dict[str, Json]:
        """Plain dict, JSON-safe."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Agreement:
        """The inverse of `to_json`."""
        examples = tuple(
            Example(**{**one, "original": tuple(one["original"]), "candidate": tuple(one["candidate"])})
            for one in value["examples"]
        )
        intervals = {key: Interval(**value[key]) for key in ("correlation", "overlap")}
        return cls(**{**value, **intervals, "examples": examples})


def compare_attributions(
    original: Array,
    candidate: Array,
    rows: Sequence[int],
    decided: Sequence[int],
    confidence: float,
    method: str,
    note: str = "",
) -> Agreement:
    """Compare attributions of the same rows.

    Args:
        original, candidate: float (n, regions). rows: the place of each row in its split.
        decided: its class, or which number.
        confidence: of both intervals.

    Raises:
        DataError: fewer than two regions, or arrays of different shape.
    """
    if original.shape != candidate.shape or original.ndim != 2 or original.shape[1] < 2:
        raise DataError(
            f"attributions of {original.shape} and {candidate.shape} cannot be ranked",
            where="verify.explain",
            fix="explain inputs of two parts or more, or set it to null",
        )
    top = min(original.shape[1], max(LEAST_TOP, math.ceil(TOP_SHARE * original.shape[1])))
    found = [
        (_correlation(own, other), _overlap(own, other, top), index)
        for index, (own, other) in enumerate(zip(original, candidate, strict=True))
        if np.ptp(own) or np.ptp(other)
    ]
    ordered = sorted(found)
    places = np.unique(np.linspace(0, len(ordered) - 1, SHOWN).astype(int)).tolist() if ordered else []
    shown = [ordered[place] for place in places]
    examples = [
        Example(int(rows[i]), int(decided[i]), rank, share, _short(original[i]), _short(candidate[i]))
        for rank, share, i in shown
    ]
    return Agreement(
        method,
        original.shape[1],
        top,
        _mean([rank for rank, _, _ in found], confidence, -1.0),
        _mean([share for _, share, _ in found], confidence, 0.0),
        len(original) - len(found),
        tuple(examples),
        note,
    )


def _correlation(one: Array, other: Array) -> float:
    return float(spearmanr(one, other).statistic) if np.ptp(one) and np.ptp(other) else 0.0


def _overlap(one: Array, other: Array, top: int) -> float:
    if not (np.ptp(one) and np.ptp(other)):
        return 0.0
    first, second = (set(np.argsort(-np.abs(values), kind="stable")[:top].tolist()) for values in (one, other))
    return len(first & second) / top


def _mean(values: Sequence[float], confidence: float, least: float) -> Interval:
    """Mean with Student's interval, cut to what the figure can be; of fewer than two values nothing is known."""
    if len(values) < 2:
        return Interval(float(np.mean(values)) if values else 0.0, least, 1.0, len(values), confidence)
    mean = float(np.mean(values))
    half = float(t.isf((1 - confidence) / 2, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return Interval(mean, max(mean - half, least), min(mean + half, 1.0), len(values), confidence)


def _short(values: Array) -> tuple[float, ...]:
    return tuple(float(f"{value:.5g}") for value in values)
