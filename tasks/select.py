"""Between 3 and 4: every build measured on validation, on the runtime that will serve it; who tries the gate."""

from __future__ import annotations

from collections.abc import Mapping
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
    BASELINE,
    build_name,
    eager,
    judged,
    open_build,
    original_bytes,
    points,
    reference,
)
from trimtab.compress.search import Point, choose, front, how_near, set_aside
from trimtab.compress.search.for_int8 import finer_twins
from trimtab.data import Array
from trimtab.errors import BudgetNotMet, DataError, UserCodeError
from trimtab.recipe.schema import Measure
from trimtab.targets import TARGETS
from trimtab.verify.latency import measure
from trimtab.verify.memory import footprints
from trimtab.verify.slices import largest_drop
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
    """The metric and interleaved latency of every build on validation rows."""
    by_id = {value["id"]: Candidate.from_json(value) for value in candidates}
    original = Candidate.from_json(candidates[0])
    parsed = [Converted.from_json(value) for value in builds]
    baseline = eager(bench, original)
    predictors = {build_name(build): open_build(bench, build) for build in parsed}
    validation = bench.splits["validation"]
    with bench.measuring(), bench.stopwatch.on("measuring"), Progress("measuring every build") as progress:
        hits, right = judged(baseline, predictors, validation.inputs, validation.labels, progress, bench.task)
        timings = measure(
            baseline,
            predictors,
            validation.inputs,
            screening(bench),
            lambda done, total: progress(done, total, "rounds of latency"),
        )
        # Of a runtime in a process of its own only our end of the pipe could be measured.
        here = [build for build in parsed if not TARGETS[build.target].load_worker]
        folders = {build_name(b): (b.target, bench.target_folder(b.candidate, b.target)) for b in here}
        settings = bench.recipe.measure
        costs = footprints(folders, validation.inputs, max(settings.batch_sizes), settings.threads)
    search = bench.recipe.compress.search
    if search is not None and bench.new_rows is None:
        counted_from = reference(list(by_id.values()), hits, search.reference)
        right[BASELINE], hits[BASELINE] = right[counted_from], hits[counted_from]
    worst = _worst_slices(bench, right)
    first = bench.recipe.measure.batch_sizes[0]
    size = original_bytes(bench, original.id)
    memory = {name: cost.peak_mb for name, cost in costs.items()}
    loading = {name: 1000 * cost.load_s for name, cost in costs.items()}
    noise = timings.noise_floor[first]
    found = points(bench, parsed, by_id, hits, timings.by_name, size, noise, memory, loading, worst)
    return {"points": [point.to_json() for point in found], "timings": timings.to_json(), "accuracy": hits[BASELINE]}


def _worst_slices(bench: Workbench, right: Mapping[str, Array]) -> dict[str, tuple[str, float]]:
    """Build name → the slice of validation that lost most, and how much; empty where the budget sets no limit.

    What the recipe's callable has for validation decides nothing at the gate: without it the classes are looked at.
    """
    if bench.recipe.budget.max_slice_drop is None or bench.task.regression:
        return {}
    try:
        own = bench.validation_slices()
    except (DataError, UserCodeError) as error:
        get_run_logger().warning("the choice looks at classes alone, not at slices of validation: %s", error)
        own = {}
    labels, names = bench.splits["validation"].labels, bench.class_names
    return {
        name: largest_drop(right[BASELINE], rows, labels, names, own)
        for name, rows in right.items()
        if name != BASELINE
    }


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
    finer = finer_twins({candidate.id: candidate for candidate in candidates})
    chosen = choose(found, bench.recipe.budget, bench.recipe.verify.finalists, finer)
    standing = Standing.of(bench.recipe.budget, found, best, chosen)
    record_builds(bench, run, candidates, measured, standing)
    if not chosen:
        raise BudgetNotMet(
            "no candidate meets the budget on validation:\n    "
            + "\n    ".join(how_near(found, bench.recipe.budget, bench.task.name)),
            where=bench.recipe.name,
            fix="loosen the budget, or give more methods, ratios or targets; nothing was registered",
        )
    wanted = {(point.candidate, point.target): rank for rank, point in enumerate(chosen)}
    finalists = sorted(
        (build for build in builds if (build.candidate, build.target) in wanted),
        key=lambda build: wanted[build.candidate, build.target],
    )
    for line in set_aside(found, bench.recipe.budget):
        get_run_logger().info("not chosen: %s", line)
    names = ", ".join(f"{point.label} on {point.target} ({point.first_speedup:.1f}x)" for point in chosen)
    get_run_logger().info("finalists: %s", names)
    return Finalists(found, best, finalists, {c.id: c for c in candidates}, candidates[0])
