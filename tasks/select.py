"""Between 3 and 4: every build measured on validation, on the runtime that will serve it; who tries the gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prefect import task
from prefect.logging import get_run_logger

from tasks.bench import ReleaseRun
from tasks.caching import JSON_RESULT, content_key
from tasks.edges import after, ended, quoted
from tasks.progress import Progress
from tasks.selection_record import Standing, record_builds
from trimtab.candidate import Candidate, Converted
from trimtab.compress.assess import (
    accuracies,
    build_name,
    eager,
    open_build,
    original_bytes,
    points,
    reference_accuracy,
)
from trimtab.compress.search import Point, choose, front, how_near
from trimtab.errors import BudgetNotMet
from trimtab.recipe.schema import Measure
from trimtab.verify.latency import measure
from trimtab.verify.memory import footprints
from trimtab.workbench import Workbench


@dataclass(frozen=True)
class Finalists:
    """What the selection found: every point, the front, and the builds that may try the gate, best first."""

    points: list[Point]
    front: list[Point]
    builds: list[Converted]
    candidates: dict[str, Candidate]
    original: Candidate


@task(
    name="select",
    task_run_name="measure every build on validation",
    cache_key_fn=content_key("select"),
    **JSON_RESULT,
)
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
        folders = {build_name(b): (b.target, bench.target_folder(b.candidate, b.target)) for b in parsed}
        settings = bench.recipe.measure
        costs = footprints(folders, validation.inputs, max(settings.batch_sizes), settings.threads)
    search = bench.recipe.compress.search
    if search is not None and bench.new_rows is None:
        hits["baseline"] = reference_accuracy(list(by_id.values()), hits, search.reference)
    first = bench.recipe.measure.batch_sizes[0]
    size = original_bytes(bench, original.id)
    memory = {name: cost.peak_mb for name, cost in costs.items()}
    loading = {name: 1000 * cost.load_s for name, cost in costs.items()}
    found = points(bench, parsed, by_id, hits, timings.by_name, size, timings.noise_floor[first], memory, loading)
    return {"points": [point.to_json() for point in found], "timings": timings.to_json(), "accuracy": hits["baseline"]}


def screening(bench: Workbench) -> Measure:
    """The recipe's measurement with fewer rounds: it orders the builds, the gate measures the finalists again."""
    settings = bench.recipe.measure
    return settings.model_copy(update={"rounds": settings.screening_rounds})


def measured_builds(bench: Workbench, candidates: list[Candidate], builds: list[Converted]) -> dict[str, Any]:
    """Every build on validation, in one task run: points, timings, and the accuracy that drops are counted from."""
    here = all(bench.stored_converted(build.candidate, build.target) for build in builds)
    arguments = quoted(bench, [candidate.to_json() for candidate in candidates], [build.to_json() for build in builds])
    wait_for = after(bench, *(f"convert {candidate.id}" for candidate in candidates))
    state = measure_all.with_options(refresh_cache=not here)(*arguments, wait_for=wait_for, return_state=True)
    measured: dict[str, Any] = ended(bench, "select", state)
    return measured


def select(bench: Workbench, run: ReleaseRun, candidates: list[Candidate], builds: list[Converted]) -> Finalists:
    """Measure, record one child run a build, and name the finalists.

    Raises:
        BudgetNotMet: no build meets the budget on validation; the message says how near each came.
    """
    measured = measured_builds(bench, candidates, builds)
    found = [Point.from_json(value) for value in measured["points"]]
    best = front(found)
    chosen = choose(found, bench.recipe.budget, bench.recipe.verify.finalists)
    standing = Standing.of(bench.recipe.budget, found, best, chosen)
    record_builds(bench, run, candidates, measured, standing)
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
