"""Between 3 and 4: every build measured on validation, on the runtime that will serve it; who tries the gate."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger

from tasks.artifacts import artifact_key
from tasks.bench import ReleaseRun
from tasks.caching import JSON_RESULT, content_key
from tasks.progress import Progress
from trimtab.candidate import Candidate, Converted
from trimtab.compress.assess import accuracies, build_name, eager, open_build, original_bytes, points
from trimtab.compress.search import Point, choose, front, how_near
from trimtab.errors import BudgetNotMet
from trimtab.recipe.schema import Measure
from trimtab.registry.comparison import knobs
from trimtab.verify.latency import measure
from trimtab.workbench import Workbench

LOGGERS = 4  # child runs are logged so many at a time


@dataclass(frozen=True)
class Finalists:
    """What the selection found: every point, the front, and the builds that may try the gate, best first."""

    points: list[Point]
    front: list[Point]
    builds: list[Converted]
    candidates: dict[str, Candidate]
    original: Candidate


@task(name="select", cache_key_fn=content_key("select"), **JSON_RESULT)
def measure_all(bench: Workbench, candidates: list[dict[str, Any]], builds: list[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy and interleaved latency of every build on validation rows."""
    by_id = {value["id"]: Candidate.from_json(value) for value in candidates}
    original = Candidate.from_json(candidates[0])
    parsed = [Converted.from_json(value) for value in builds]
    baseline = eager(bench, original)
    predictors = {build_name(build): open_build(bench, build) for build in parsed}
    validation = bench.splits["validation"]
    with bench.measuring(), bench.stopwatch.on("measuring"), Progress("measuring every build") as progress:
        hits = accuracies(baseline, predictors, validation.inputs, validation.labels, progress)
        timings = measure(
            baseline,
            predictors,
            validation.inputs,
            screening(bench),
            lambda done, total: progress(done, total, "rounds of latency"),
        )
    found = points(bench, parsed, by_id, hits, timings.by_name, original_bytes(bench, original.id))
    return {"points": [point.to_json() for point in found], "timings": timings.to_json(), "accuracy": hits["baseline"]}


def screening(bench: Workbench) -> Measure:
    """The recipe's measurement with fewer rounds: it orders the builds, the gate measures the finalists again."""
    settings = bench.recipe.measure
    return settings.model_copy(update={"rounds": settings.screening_rounds})


def select(bench: Workbench, run: ReleaseRun, candidates: list[Candidate], builds: list[Converted]) -> Finalists:
    """Measure, record one child run a build, and name the finalists.

    Raises:
        BudgetNotMet: no build meets the budget on validation; the message says how near each came.
    """
    here = all(bench.stored_converted(build.candidate, build.target) for build in builds)
    measured = measure_all.with_options(refresh_cache=not here)(
        bench, [candidate.to_json() for candidate in candidates], [build.to_json() for build in builds]
    )
    found = [Point.from_json(value) for value in measured["points"]]
    _record(bench, run, candidates, found)
    best = front(found)
    chosen = choose(found, bench.recipe.budget, bench.recipe.verify.finalists)
    if not chosen:
        raise BudgetNotMet(
            "no candidate meets the budget on validation:\n    " + "\n    ".join(how_near(found, bench.recipe.budget)),
            where=bench.recipe.name,
            fix="loosen the budget, or give more methods, ratios or targets; nothing was registered",
        )
    wanted = {(point.candidate, point.target): rank for rank, point in enumerate(chosen)}
    finalists = sorted(
        (build for build in builds if (build.candidate, build.target) in wanted),
        key=lambda build: wanted[build.candidate, build.target],
    )
    names = ", ".join(f"{point.label} on {point.target} ({point.first_speedup:.1f}x)" for point in chosen)
    get_run_logger().info("finalists: %s", names)
    return Finalists(found, best, finalists, {c.id: c for c in candidates}, candidates[0])


def _record(bench: Workbench, run: ReleaseRun, candidates: list[Candidate], found: list[Point]) -> None:
    by_id = {candidate.id: candidate for candidate in candidates}
    columns = knobs([by_id[point.candidate].lineage for point in found])
    with ThreadPoolExecutor(LOGGERS) as pool:
        list(pool.map(lambda pair: _child(run, *pair), zip(found, columns, strict=True)))
    create_table_artifact(
        key=artifact_key("front", bench.recipe.name),
        description="Every build on the validation split, fastest first",
        table=[
            {
                "build": f"{point.label} on {point.target}",
                "accuracy": f"{point.accuracy:.2%}",
                **{f"speed-up b{batch}": f"{value:.2f}x" for batch, value in point.speedup.items()},
                "smaller": f"{point.size_ratio:.2f}x",
                "p99": f"{point.p99_ms:.3f} ms",
            }
            for point in sorted(found, key=lambda point: -point.first_speedup)
        ],
    )


def _child(run: ReleaseRun, point: Point, params: dict[str, str]) -> str:
    """The MLflow run of one build: the same keys in every child, so that the compare view can draw them."""
    return run.tracking.child_run(
        run.run_id,
        f"{point.candidate}@{point.target}",
        f"{point.label} on {point.target}",
        {**params, "target": point.target},
        {
            "validation_accuracy": point.accuracy,
            "validation_drop": point.drop,
            "size_ratio": point.size_ratio,
            "p99_ms": point.p99_ms,
            **{f"speedup_b{batch}": value for batch, value in point.speedup.items()},
        },
        {"trimtab.candidate": point.candidate},
    )
