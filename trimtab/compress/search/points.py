"""What was found of each build, which builds are on the Pareto front, and which try the gate.

Figures here are point estimates on the validation split; they order the candidates, and the gate decides with
intervals on rows that nothing else has seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trimtab.recipe.schema import Budget


@dataclass(frozen=True)
class Point:
    """A candidate on a target, as measured on the validation split.

    Attributes:
        candidate: id. target: e.g. "onnxruntime-cpu". label: short human name.
        accuracy: share of right answers. drop: accuracy of the original minus it.
        speedup: batch size → median latency of the eager original over the median here; the first one counts.
        size_ratio: bytes of the original's FP32 weights over bytes shipped.
        p99_ms: 99th percentile of the latency at the first batch size, in milliseconds.
        noise: noise floor of the speed-up at the first batch size: how far the baseline was from itself, as a share.
        gain: how many times as fast as the original that was not cut, on the same target in the same precision, at
            the first batch size; None where that was not measured, or for that original itself.
    """

    candidate: str
    target: str
    label: str
    accuracy: float
    drop: float
    speedup: Mapping[int, float]
    size_ratio: float
    p99_ms: float
    noise: float = 0.0
    gain: float | None = None

    @property
    def first_speedup(self) -> float:
        """Speed-up at the first batch size."""
        return next(iter(self.speedup.values()))

    @property
    def gained(self) -> str:
        """The gain in words: "1.32x", "no gain" where it is below the noise floor, "–" where there is none to name."""
        if self.gain is None:
            return "–"
        return f"{self.gain:.2f}x" if self.gain > 1 + self.noise else "no gain"

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        return {**asdict(self), "speedup": {str(batch): value for batch, value in self.speedup.items()}}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Point:
        """The inverse of `to_json`."""
        return cls(**{**value, "speedup": {int(batch): ratio for batch, ratio in value["speedup"].items()}})


def front(points: Sequence[Point]) -> list[Point]:
    """Points that no other point beats: as good in accuracy, speed-up at the first batch and size, better in one.

    A difference of speed within the noise floor is none: who is only that much faster is beaten by who is better
    otherwise.
    """
    kept = [point for point in points if not any(_dominates(other, point) for other in points)]
    return sorted(kept, key=_fastest_first)


def choose(points: Sequence[Point], budget: Budget, finalists: int) -> list[Point]:
    """At most `finalists` points that meet the budget by point estimate, fastest first.

    Ties go to the more accurate, then the smaller, then by candidate and target, so the order of the input does not
    matter.
    """
    return sorted((point for point in points if not _misses(point, budget)), key=_fastest_first)[:finalists]


def how_near(points: Sequence[Point], budget: Budget) -> list[str]:
    """A line a point: what it misses and by how much, or that it meets the budget; nearest first."""
    ordered = sorted(points, key=lambda point: (len(_misses(point, budget)), point.drop, *_fastest_first(point)))
    return [
        f"{point.label} on {point.target}: " + ("; ".join(_misses(point, budget)) or "meets the budget")
        for point in ordered
    ]


def _misses(point: Point, budget: Budget) -> list[str]:
    misses = []
    # A drop that is the margin exactly must not fail by rounding of a difference of two shares.
    if point.drop > budget.max_drop + 1e-12:
        misses.append(f"accuracy drop {point.drop:.4f} > max_drop {budget.max_drop:g}")
    if point.first_speedup < budget.min_speedup:
        misses.append(f"speed-up {point.first_speedup:.2f} < min_speedup {budget.min_speedup:g}")
    if point.size_ratio < budget.min_size_ratio:
        misses.append(f"size ratio {point.size_ratio:.2f} < min_size_ratio {budget.min_size_ratio:g}")
    if budget.max_p99_ms is not None and point.p99_ms > budget.max_p99_ms:
        misses.append(f"p99 {point.p99_ms:.3f} ms > max_p99_ms {budget.max_p99_ms:g}")
    return misses


def _dominates(one: Point, other: Point) -> bool:
    floor = 1 + max(one.noise, other.noise)
    as_good = (
        one.accuracy >= other.accuracy
        and one.size_ratio >= other.size_ratio
        and one.first_speedup * floor >= other.first_speedup
    )
    better = (
        one.accuracy > other.accuracy
        or one.size_ratio > other.size_ratio
        or one.first_speedup > other.first_speedup * floor
    )
    return as_good and better


def _fastest_first(point: Point) -> tuple[float, float, float, str, str]:
    return -point.first_speedup, -point.accuracy, -point.size_ratio, point.candidate, point.target
