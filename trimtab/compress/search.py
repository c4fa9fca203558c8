"""The compression search: which candidates are made, which of them are on the Pareto front, and which try the gate.

Figures here are point estimates on the validation split; they order the candidates, and the gate decides with
intervals on rows that nothing else has seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trimtab.candidate import Step, digest_of
from trimtab.recipe.schema import Budget, Compress

ORIGINAL: tuple[Step, ...] = ()
ON_THE_GRAPH = frozenset({"quantize", "quantize_openvino", "cluster", "half"})  # they rewrite a graph, and come last


@dataclass(frozen=True)
class Point:
    """A candidate on a target, as measured on the validation split.

    Attributes:
        candidate: id. target: e.g. "onnxruntime-cpu". label: short human name.
        accuracy: share of right answers. drop: accuracy of the original minus it.
        speedup: batch size → median latency of the eager original over the median here; the first one counts.
        size_ratio: bytes of the original's FP32 weights over bytes shipped.
        p99_ms: 99th percentile of the latency at the first batch size, in milliseconds.
    """

    candidate: str
    target: str
    label: str
    accuracy: float
    drop: float
    speedup: Mapping[int, float]
    size_ratio: float
    p99_ms: float

    @property
    def first_speedup(self) -> float:
        """Speed-up at the first batch size."""
        return next(iter(self.speedup.values()))

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        return {**asdict(self), "speedup": {str(batch): value for batch, value in self.speedup.items()}}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Point:
        """The inverse of `to_json`."""
        return cls(**{**value, "speedup": {int(batch): ratio for batch, ratio in value["speedup"].items()}})


def plan(compress: Compress, seed: int) -> list[tuple[Step, ...]]:
    """The steps after "train" of every candidate; each step's parameters hold all that decides its result.

    As it is, shortened by each number of blocks, pruned by each criterion at each ratio, and both (all but the first
    distilled when that is on); each of these in FP32 and with its graph quantized, clustered or halved, whichever are
    on. With the defaults 14: pruned or not, FP32 and INT8. The first is the original itself.
    """
    distilled = _distilled(compress, seed)
    shapes = [(*shorter, *pruned) for shorter in _shortened(compress) for pruned in _pruned(compress, seed)]
    starts = [(*shape, *distilled) if shape else ORIGINAL for shape in shapes]
    return [steps for start in starts for steps in (start, *((*start, last) for last in _on_the_graph(compress)))]


def replan(finalists: Sequence[Sequence[Step]]) -> list[tuple[Step, ...]]:
    """The plan of a retrain: the original, and what reached the gate last time with what each was made from.

    Which shapes are fast does not depend on their weights, so the search need not be repeated for new data.
    """
    plans: dict[tuple[str, ...], tuple[Step, ...]] = {(): ORIGINAL}
    for steps in finalists:
        for end in range(1, len(steps) + 1):
            part = tuple(steps[:end])
            if part[-1].method in ON_THE_GRAPH or end == len(steps) or steps[end].method in ON_THE_GRAPH:
                plans.setdefault(tuple(digest_of(asdict(step)) for step in part), part)
    return list(plans.values())


def _shortened(compress: Compress) -> list[tuple[Step, ...]]:
    """Nothing, and each number of blocks fewer."""
    numbers = dict.fromkeys(compress.shorten.blocks) if compress.shorten else {}
    return [(), *((Step("shorten", {"blocks": count, "label": f"shorten-{count}"}),) for count in numbers)]


def _pruned(compress: Compress, seed: int) -> list[tuple[Step, ...]]:
    """Nothing, and each criterion at each ratio."""
    settings = compress.prune
    if settings is None:
        return [()]
    steps = [
        Step(
            "prune",
            {"norm": norm, "ratio": ratio, "round_to": settings.round_to, "label": f"prune-{norm}-{ratio:g}"},
            seed if norm in ("taylor", "random") else None,
        )
        for norm in dict.fromkeys(settings.norms)
        for ratio in dict.fromkeys(settings.ratios)
    ]
    return [(), *((step,) for step in steps)]


def _distilled(compress: Compress, seed: int) -> tuple[Step, ...]:
    if compress.distil is None:
        return ()
    return (Step("distil", {**compress.distil.model_dump(mode="json"), "label": "distil"}, seed),)


def _on_the_graph(compress: Compress) -> list[Step]:
    """The last step, of which a candidate has at most one."""
    steps = []
    if compress.quantize is not None:
        label = "int8" if compress.quantize.mode == "static" else "int8-dynamic"
        steps.append(Step("quantize", {**compress.quantize.model_dump(mode="json"), "label": label}))
    if compress.cluster is not None:
        bits = compress.cluster.bits
        steps.append(Step("cluster", {"bits": bits, "label": f"cluster-{bits}"}))
    if compress.half is not None:
        steps.append(Step("half", {"label": "fp16"}))
    return steps


def precision(steps: Sequence[Step]) -> str:
    """Precision of a candidate before it is made, as `convert.carries` takes it."""
    last = steps[-1] if steps else Step("train")
    if last.method == "quantize":
        return "int8" if last.parameters.get("mode", "static") == "static" else "int8-dynamic"
    others = {"quantize_openvino": "int8-nncf", "cluster": "clustered", "half": "fp16"}
    return others.get(last.method, "fp32")


def front(points: Sequence[Point]) -> list[Point]:
    """Points that no other point beats: as good in accuracy, speed-up at the first batch and size, better in one."""
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


def _objectives(point: Point) -> tuple[float, float, float]:
    return point.accuracy, point.first_speedup, point.size_ratio


def _dominates(one: Point, other: Point) -> bool:
    pairs = list(zip(_objectives(one), _objectives(other), strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def _fastest_first(point: Point) -> tuple[float, float, float, str, str]:
    return -point.first_speedup, -point.accuracy, -point.size_ratio, point.candidate, point.target
