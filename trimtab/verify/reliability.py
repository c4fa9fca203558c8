"""Can the stated probability be trusted: of the answers given with 80 %, are 80 % right? (Guo et al. 2017.)

The expected calibration error (ECE) is taken over bins of equal mass: rows are ordered by the probability of the class
they were given and cut into BINS parts of as many rows; it is the mean, weighted by rows, of |share right - mean
probability|. Bins of equal width would leave most of them nearly empty, since most answers are given with more than
90 %. An example to check by hand: of four rows answered with 0.9, 0.9, 0.6, 0.6 the first two are right, the others
wrong; in two bins the error is (2 * |1 - 0.9| + 2 * |0 - 0.6|) / 4 = 0.35.

The error is never below zero and so is too high on few rows: `floor` is what a model would show whose probabilities are
exactly right, and so the most that a model's error can be too high by. Resamples do not tell how much of that there is,
so each interval allows for all of it and for none of it: an original that seems worse than it is would else hide a
rise. No rise can therefore be shown to be smaller than the original's floor. The Brier score (1950) has no bins: the
mean of the squared distance of all probabilities from the truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import numpy as np

from trimtab.bins import BINS, bins_of
from trimtab.candidate import Interval, Json
from trimtab.errors import DataError
from trimtab.verify.resampling import basic_interval, weights
from trimtab.verify.words import signed

Array = np.ndarray
FLOOR_DRAWS = 200


@dataclass(frozen=True)
class Bin:
    """Rows answered with about the same probability: the mean of it, the share of right answers, and their number."""

    stated: float
    right: float
    rows: int


@dataclass(frozen=True)
class Reliability:
    """One model on one split.

    Attributes:
        ece: expected calibration error, 0 … 1, bootstrap interval. floor: its mean over draws of the same rows in
            which every probability is exactly right.
        brier: 0 … 2, bootstrap interval.
        bins: by rising probability; fewer than BINS where many rows have the same one.
    """

    ece: Interval
    floor: float
    brier: Interval
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Trust:
    """Original and candidate on the same rows.

    Attributes:
        ece_rise, brier_rise: candidate - original, paired bootstrap interval (the first one widened, see above).
    """

    original: Reliability
    candidate: Reliability
    ece_rise: Interval
    brier_rise: Interval

    def sentence(self) -> str:
        """Both errors and what became of them."""
        before, after, rise = self.original, self.candidate, self.ece_rise
        if rise.low > 0:
            word = "less calibrated than the original"
        elif rise.high < 0:
            word = "better calibrated than the original"
        else:
            word = "not shown to be calibrated differently from the original"
        return (
            f"expected calibration error {after.ece.value:.4f} ({before.ece.value:.4f} before; {after.floor:.4f} is "
            f"what chance alone gives on {rise.n:,} rows): {word} (difference {signed(rise.value)}, "
            f"{100 * rise.confidence:.4g} % interval {signed(rise.low)} to {signed(rise.high)})"
        )

    def to_json(self) -> dict[str, Json]:
        """Plain dict, JSON-safe."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Trust:
        """The inverse of `to_json`."""
        return cls(
            _from_json(value["original"]),
            _from_json(value["candidate"]),
            Interval(**value["ece_rise"]),
            Interval(**value["brier_rise"]),
        )


def compare_trust(original: Array, candidate: Array, labels: Array, confidence: float) -> Trust:
    """Both models' probabilities against the truth.

    Bins are cut once and kept in the resamples.

    Args:
        original, candidate: float (n, classes), probabilities; same rows, same order. labels: int (n,).
        confidence: of each interval.

    Raises:
        DataError: no rows, or arrays that are not of the same rows.
    """
    if original.shape != candidate.shape or original.shape[:1] != labels.shape or not len(labels):
        raise DataError(
            f"{original.shape}, {candidate.shape} and {labels.shape} are not the same rows three times",
            where="reliability",
            fix="predict the same non-empty split with both models",
        )
    before, after = _Model(original, labels), _Model(candidate, labels)
    draws: list[tuple[Array, ...]] = [
        (before.ece(drawn), after.ece(drawn), before.brier(drawn), after.brier(drawn)) for drawn in weights(len(labels))
    ]
    ece, own_ece, brier, own_brier = (np.concatenate(parts) for parts in zip(*draws, strict=True))
    rows = len(labels)
    all_once = np.ones((1, rows))
    (shown, left), (own_shown, own_left) = before.bias(ece), after.bias(own_ece)
    ece_rise = float((after.ece(all_once) - before.ece(all_once))[0])
    brier_rise = float((after.brier(all_once) - before.brier(all_once))[0])
    return Trust(
        before.summary(ece, brier, confidence),
        after.summary(own_ece, own_brier, confidence),
        _widened(
            basic_interval(ece_rise, own_ece - ece, rows, confidence, -1.0, 1.0),
            own_left + shown,
            left + own_shown,
            -1.0,
        ),
        basic_interval(brier_rise, own_brier - brier, rows, confidence, -2.0, 2.0),
    )


class _Model:
    """What is needed of one model to compute its figures on any drawing of the rows."""

    def __init__(self, probabilities: Array, labels: Array) -> None:
        chances = np.asarray(probabilities, np.float64)
        self.stated = chances.max(axis=1)
        self.right = (chances.argmax(axis=1) == labels).astype(np.float64)
        self.place = bins_of(self.stated, BINS)
        truth = np.eye(chances.shape[1])[labels]
        self.squares = ((chances - truth) ** 2).sum(axis=1)

    def ece(self, drawn: Array, right: Array | None = None) -> Array:
        """Float (draws,) for weights (draws, n)."""
        gaps = np.zeros((len(self.stated), self.place.max() + 1))
        gaps[np.arange(len(gaps)), self.place] = self.stated - (self.right if right is None else right)
        found: Array = np.abs(drawn @ gaps).sum(axis=1) / drawn.sum(axis=1)
        return found

    def brier(self, drawn: Array) -> Array:
        """Float (draws,) for weights (draws, n)."""
        found: Array = drawn @ self.squares / drawn.sum(axis=1)
        return found

    @cached_property
    def floor(self) -> float:
        """Mean of the ECE over draws in which each answer is right with the stated probability."""
        random = np.random.default_rng(0)
        once = np.ones((1, len(self.stated)))
        chance = [self.ece(once, random.random(len(self.stated)) < self.stated)[0] for _ in range(FLOOR_DRAWS)]
        return float(np.mean(chance))

    def bias(self, resampled: Array) -> tuple[float, float]:
        """How much too high the ECE is: as its resamples show, which the interval takes out; and what may be left."""
        shown = max(float(resampled.mean() - self.ece(np.ones((1, len(self.stated))))[0]), 0.0)
        return shown, max(self.floor - shown, 0.0)

    def summary(self, ece: Array, brier: Array, confidence: float) -> Reliability:
        once, rows = np.ones((1, len(self.stated))), len(self.stated)
        shown, left = self.bias(ece)
        parts = [self.place == index for index in range(self.place.max() + 1)]
        return Reliability(
            _widened(basic_interval(self.ece(once)[0], ece, rows, confidence, 0.0, 1.0), left, shown, 0.0),
            self.floor,
            basic_interval(self.brier(once)[0], brier, rows, confidence, 0.0, 2.0),
            tuple(Bin(float(self.stated[p].mean()), float(self.right[p].mean()), int(p.sum())) for p in parts),
        )


def _widened(one: Interval, below: float, above: float, least: float) -> Interval:
    return replace(one, low=max(one.low - below, least), high=min(one.high + above, 1.0))


def _from_json(value: Mapping[str, Json]) -> Reliability:
    bins = tuple(Bin(**one) for one in value["bins"])
    return Reliability(Interval(**value["ece"]), value["floor"], Interval(**value["brier"]), bins)
