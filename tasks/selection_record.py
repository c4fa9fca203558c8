"""The selection where people look for it: a child run a build in MLflow, and the table of the front in Prefect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from prefect.artifacts import create_table_artifact

from tasks.artifacts import artifact_key
from tasks.bench import ReleaseRun
from trimtab.candidate import Candidate
from trimtab.compress.search import Point, choose
from trimtab.recipe.schema import Budget
from trimtab.registry.comparison import knobs
from trimtab.task import CLASSIFICATION, Task
from trimtab.workbench import Workbench

LOGGERS = 4  # child runs are logged so many at a time


@dataclass(frozen=True)
class Standing:
    """Where each build stands, by its candidate and target."""

    on_front: frozenset[tuple[str, str]]
    within_budget: frozenset[tuple[str, str]]
    finalists: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, budget: Budget, points: Sequence[Point], front: Sequence[Point], chosen: Sequence[Point]) -> Standing:
        """From the points of a search, its front and the finalists it chose."""
        return cls(_builds(front), _builds(choose(points, budget, len(points))), _builds(chosen))


def record_builds(
    bench: Workbench, run: ReleaseRun, candidates: Sequence[Candidate], measured: Mapping[str, Any], standing: Standing
) -> None:
    """Log every build to MLflow, and the table of all of them to Prefect.

    Args:
        measured: what the task of the selection returned.
    """
    points = [Point.from_json(value) for value in measured["points"]]
    by_id = {candidate.id: candidate for candidate in candidates}
    columns = knobs([by_id[point.candidate].lineage for point in points])
    latencies = measured["timings"]["by_name"]
    with ThreadPoolExecutor(LOGGERS) as pool:
        list(pool.map(lambda point, knob: _child(run, point, knob, latencies, standing, bench.task), points, columns))
    create_table_artifact(
        key=artifact_key("front", bench.recipe.name),
        description="Every build on the validation split, fastest first",
        table=[row(point, standing, bench.task) for point in sorted(points, key=lambda point: -point.first_speedup)],
    )


def row(point: Point, standing: Standing, task: Task = CLASSIFICATION) -> dict[str, str]:
    """One line of the table of the front."""
    key = (point.candidate, point.target)
    words = {True: "yes", False: "–"}
    return {
        "build": f"{point.label} on {point.target}",
        task.name: f"{point.accuracy:.2%}" if task.by_accuracy else task.show(point.accuracy),
        **{f"speed-up b{batch}": f"{value:.2f}x" for batch, value in point.speedup.items()},
        "than uncut": point.gained,
        "smaller": f"{point.size_ratio:.2f}x",
        "p99": f"{point.p99_ms:.3f} ms",
        "peak memory": "–" if point.memory_mb is None else f"{point.memory_mb:.1f} MiB",
        "load": "–" if point.load_ms is None else f"{point.load_ms:.0f} ms",
        **({} if point.slice_drop is None else {"worst slice": f"{point.slice_name}: {point.slice_drop:.2%}"}),
        "on front": words[key in standing.on_front],
        "in budget": words[key in standing.within_budget],
        "finalist": words[key in standing.finalists],
    }


def metrics(
    point: Point, latencies: Mapping[str, Any], standing: Standing, task: Task = CLASSIFICATION
) -> dict[str, float]:
    """Objectives of one build, the same keys for every build.

    Args:
        latencies: build name → batch size → latency in seconds, as `Timings.to_json` gives them.
    """
    key = (point.candidate, point.target)
    first = str(next(iter(point.speedup)))
    return {
        f"validation_{task.metric}": -point.accuracy if task.relative else point.accuracy,
        "validation_drop": point.drop,
        "size_ratio": point.size_ratio,
        "p50_ms": 1000 * latencies[f"{point.candidate}@{point.target}"][first]["p50_s"],
        "p99_ms": point.p99_ms,
        **({} if point.memory_mb is None else {"peak_memory_mb": point.memory_mb}),
        **({} if point.load_ms is None else {"load_ms": point.load_ms}),
        **({} if point.slice_drop is None else {"worst_slice_drop": point.slice_drop}),
        **{f"speedup_b{batch}": value for batch, value in point.speedup.items()},
        "on_front": float(key in standing.on_front),
        "within_budget": float(key in standing.within_budget),
    }


def _child(
    run: ReleaseRun,
    point: Point,
    params: dict[str, str],
    latencies: Mapping[str, Any],
    standing: Standing,
    task: Task,
) -> str:
    """The MLflow run of one build: the same keys in every child, so that the compare view can draw them."""
    return run.tracking.child_run(
        run.run_id,
        f"{point.candidate}@{point.target}",
        f"{point.label} on {point.target}",
        {**params, "target": point.target},
        metrics(point, latencies, standing, task),
        {"trimtab.candidate": point.candidate},
    )


def _builds(points: Sequence[Point]) -> frozenset[tuple[str, str]]:
    return frozenset((point.candidate, point.target) for point in points)
