"""What was found of each build, which builds are on the Pareto front, and which try the gate.

Figures here are point estimates on the validation split; they order the candidates, and the gate decides with
intervals on rows that nothing else has seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trimtab.recipe.schema import Budget

ROUNDING = 1e-12
MEMORY_NOISE = 1.1  # allocators round up, and not alike in two processes


@dataclass(frozen=True)
class Point:
    """A candidate on a target, as measured on the validation split.

    Attributes:
        candidate: id. target: e.g. "onnxruntime-cpu". label: short human name.
        accuracy: share of right answers; of a regression its score (R², or minus the error). drop: accuracy of the
            original minus it; of an error the relative worsening (see `task`).
        speedup: batch size → median latency of the eager original over the median here; the first one counts.
        size_ratio: bytes of the original's FP32 weights over bytes shipped.
        p99_ms: 99th percentile of the latency at the first batch size, in milliseconds.
        noise: noise floor of the speed-up at the first batch size: how far the baseline was from itself, as a share.
        gain: how many times as fast as the original that was not cut, on the same target in the same precision, at
            the first batch size; None where that was not measured, or for that original itself.
        memory_mb: what a process grows by to load it and answer the largest batch, MiB at the peak; None: not measured.
        load_ms: milliseconds from nothing opened to its first answer, of the largest batch; None: not measured.
        slice_drop: the largest drop of a class or of a slice of the recipe's, of the one called slice_name; None: not
            looked at, as where the budget sets no limit.
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
    memory_mb: float | None = None
    load_ms: float | None = None
    slice_drop: float | None = None
    slice_name: str = ""

    @property
    def first_speedup(self) -> float:
        """Speed-up at the first batch size."""
        return next(iter(self.speedup.values()))

    @property
    def key(self) -> tuple[str, str]:
        """What identifies it: candidate and target."""
        return self.candidate, self.target

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
    """Points that no other point beats: as good in accuracy, speed-up at the first batch, size and peak memory, and
    better in one of them.

    A difference of speed within the noise floor is none, nor is one of memory within a tenth: who is ahead by that
    alone is beaten by who is better otherwise.
    """
    kept = [point for point in points if not any(_dominates(other, point) for other in points)]
    return sorted(kept, key=_fastest_first)


def choose(
    points: Sequence[Point], budget: Budget, finalists: int, finer: Mapping[str, str] | None = None
) -> list[Point]:
    """At most `finalists` points that meet the budget by point estimate, fastest first.

    Coarser weights are for who has no other way to a size: where the same network with finer ones meets the budget too,
    on the same target, that one is chosen. They are as fast, and which of both is ahead would be chance.

    One in which a slice loses more than the budget lets it is chosen only where it is so in all of them: slices are
    small, and which of them all lost beyond a margin the gate can tell better than this.

    Ties go to the more accurate, then the smaller, then by candidate and target, so the order of the input does not
    matter.

    Args:
        finer: candidate with coarser weights → the same network with finer ones.
    """
    within = [point for point in points if not _misses(point, budget)]
    kept = [point for point in within if not _broken_slice(point, budget)] or within
    able, twins = {point.key for point in kept}, finer or {}
    kept = [point for point in kept if (twins.get(point.candidate), point.target) not in able]
    return sorted(kept, key=_fastest_first)[:finalists]


def set_aside(points: Sequence[Point], budget: Budget) -> list[str]:
    """A line for each point that meets the rest of the budget and is not chosen for what one of its slices loses."""
    within = sorted((point for point in points if not _misses(point, budget)), key=_fastest_first)
    broken = [(point, words) for point in within if (words := _broken_slice(point, budget))]
    if len(broken) == len(within):
        return []
    return [f"{point.label} on {point.target}: {words}" for point, words in broken]


def how_near(points: Sequence[Point], budget: Budget, metric: str = "accuracy") -> list[str]:
    """A line a point: what it misses and by how much, or that it meets the budget; nearest first."""
    ordered = sorted(points, key=lambda point: (len(_misses(point, budget)), point.drop, *_fastest_first(point)))
    return [
        f"{point.label} on {point.target}: " + ("; ".join(_misses(point, budget, metric)) or "meets the budget")
        for point in ordered
    ]


def _broken_slice(point: Point, budget: Budget) -> str:
    """The slice that loses more than `budget.max_slice_drop` by point estimate, in words; "" if none does.

    The gate asks for more, a whole interval within the margin: who is beyond it here will hardly be within it there.
    """
    drop, limit = point.slice_drop, budget.max_slice_drop
    if limit is None or drop is None or drop <= limit + ROUNDING:
        return ""
    return f'"{point.slice_name}" drops {drop:.4f} > max_slice_drop {limit:g}'


def _misses(point: Point, budget: Budget, metric: str = "accuracy") -> list[str]:
    misses = []
    # A drop that is the margin exactly must not fail by rounding of a difference of two shares.
    if point.drop > budget.max_drop + ROUNDING:
        misses.append(f"{metric} drop {point.drop:.4f} > max_drop {budget.max_drop:g}")
    if point.first_speedup < budget.min_speedup:
        misses.append(f"speed-up {point.first_speedup:.2f} < min_speedup {budget.min_speedup:g}")
    if point.size_ratio < budget.min_size_ratio:
        misses.append(f"size ratio {point.size_ratio:.2f} < min_size_ratio {budget.min_size_ratio:g}")
    if budget.max_p99_ms is not None and point.p99_ms > budget.max_p99_ms:
        misses.append(f"p99 {point.p99_ms:.3f} ms > max_p99_ms {budget.max_p99_ms:g}")
    return misses


def _dominates(one: Point, other: Point) -> bool:
    mine, its = _objectives(one, other), _objectives(other, one)
    as_good = all(a * floor >= b for (a, floor), (b, _) in zip(mine, its, strict=True))
    return as_good and any(a > b * floor for (a, floor), (b, _) in zip(mine, its, strict=True))


def _objectives(point: Point, other: Point) -> list[tuple[float, float]]:
    """The more, the better: each with the factor that a difference has to pass to be one."""
    both = point.memory_mb is not None and other.memory_mb is not None
    return [
        (point.accuracy, 1.0),
        (point.size_ratio, 1.0),
        (point.first_speedup, 1 + max(point.noise, other.noise)),
        (1 / max(point.memory_mb or 0.0, 0.1) if both else 1.0, MEMORY_NOISE),
    ]


def _fastest_first(point: Point) -> tuple[float, float, float, str, str]:
    return -point.first_speedup, -point.accuracy, -point.size_ratio, point.candidate, point.target
