"""The first half of the search: shapes measured on the runtimes before anything is trained."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from prefect import task
from prefect.logging import get_run_logger

from tasks.caching import JSON_RESULT, content_key
from tasks.progress import Progress
from tasks.select import screening
from trimtab import runtime
from trimtab.candidate import Candidate, digest_of
from trimtab.compress.assess import eager, predicted
from trimtab.compress.search.explore import Explored, Measured, explore, model_of, noise_of, promising, relative_latency
from trimtab.compress.search.lanes import Lane, build_lanes, fastest_of_each_target, lanes_of
from trimtab.compress.search.shape import Shape
from trimtab.compress.search.study import Study
from trimtab.compress.search.survey import Survey
from trimtab.verify.latency import measure
from trimtab.workbench import Workbench

EXPLORING = 0.25  # share of the time limit


def open_study(bench: Workbench, original: Candidate, host: str, design: list[dict[str, Any]]) -> Study:
    """The study of this original under this recipe on this host."""
    compress = bench.recipe.compress.model_dump(mode="json")
    deciding = {key: value for key, value in compress.items() if key not in ("search", "distil", "student", "qat")}
    measure = bench.recipe.measure.model_dump()
    name = digest_of([original.id, host, deciding, list(bench.recipe.targets), measure])[:16]
    return Study(bench.settings.studies / f"{bench.recipe.name}-shapes-{name}.journal", bench.recipe.train.seed, design)


@task(
    name="explore",
    task_run_name="measure shapes before training them",
    cache_key_fn=content_key("explore"),
    **JSON_RESULT,
)
def explore_shapes(bench: Workbench, original: dict[str, Any], host: str) -> dict[str, Any]:
    """The promising shapes, fastest first, with their latency over the uncut original's.

    Args:
        host: latencies of another host do not count.
    """
    settings = bench.recipe.compress.search
    assert settings is not None
    until = None if settings.minutes is None else time.monotonic() + 60 * EXPLORING * settings.minutes
    log, base = get_run_logger(), Candidate.from_json(original)
    survey = Survey(bench, base)
    space, notes = survey.space()
    for note in notes:
        log.info("not searched: %s", note)
    study = open_study(bench, base, host, space.design())
    with Progress("measuring shapes") as progress, tempfile.TemporaryDirectory(prefix="trimtab-shapes-") as folder:
        stage = Stage(bench, base, survey, Path(folder))
        trials = settings.trials if not space.empty else 0
        found = explore(
            space,
            study,
            trials,
            survey.probe,
            stage.measure,
            lambda: until is None or time.monotonic() < until,
            lambda done, total: progress(done, total, "shapes"),
        )
    chosen = promising(found, settings.shapes)
    _report(log.info, found, chosen)
    accuracy = float((predicted(stage.eager, stage.inputs).argmax(1) == bench.splits["validation"].labels).mean())
    model = model_of(found)
    return {
        "shapes": [{"shape": one.shape.to_json(), "latency": one.latency, "trial": one.number} for one in chosen],
        "lanes": [lane.name for lane in stage.uncut[0]] if found else [],
        "accuracy": accuracy,
        "noise_floor": noise_of(found),
        "latency_model": asdict(model) if model else None,
        "trials": [
            {
                "trial": one.number,
                "shape": one.shape.to_json(),
                "divergence": one.probe.divergence,
                "latency": one.latency,
                "predicted": one.predicted,
                "measured": one.measured is not None,
            }
            for one in found
        ],
    }


class Stage:
    """Builds shapes in their lanes and measures them beside the uncut original in its fastest lane."""

    def __init__(self, bench: Workbench, original: Candidate, survey: Survey, folder: Path) -> None:
        self.bench, self.survey, self.folder = bench, survey, folder
        self.inputs = bench.splits["validation"].inputs
        self.eager = eager(bench, original)

    @cached_property
    def uncut(self) -> tuple[list[Lane], Any]:
        """The fastest lane of each target, the fastest of all first, and the original in that one."""
        every = lanes_of(self.bench.recipe.compress, self.bench.recipe.targets)
        built = self._built(self.survey.module, every, "uncut")
        with self.bench.measuring(), self.bench.stopwatch.on("measuring"):
            timings = measure(self.eager, built, self.inputs, screening(self.bench))
        speedup = {name: {batch: one.speedup for batch, one in timings.by_name[name].items()} for name in built}
        latency = {name: relative_latency(Measured({name: batches}, {})) for name, batches in speedup.items()}
        lanes = fastest_of_each_target([lane for lane in every if lane.name in built], latency)
        return lanes, built[lanes[0].name]

    def measure(self, shape: Shape) -> Measured:
        """Latency of a shape in each target's fastest lane."""
        lanes, uncut = self.uncut
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            built = self._built(self.survey.cut(shape), lanes, folder)
            with self.bench.measuring(), self.bench.stopwatch.on("measuring"):
                timings = measure(uncut, built, self.inputs, screening(self.bench))
        speedup = {name: {batch: one.speedup for batch, one in timings.by_name[name].items()} for name in built}
        return Measured(speedup, timings.itself)

    def _built(self, module: Any, lanes: list[Lane], folder: str) -> dict[str, Any]:
        place = self.folder / folder
        place.mkdir(exist_ok=True)
        folders, closed = build_lanes(self.bench, module, lanes, place)
        for line in closed:
            get_run_logger().info("not a lane for it: %s", line)
        threads = self.bench.recipe.measure.threads
        opened = [lane for lane in lanes if lane.name in folders]
        return {lane.name: runtime.load(lane.target, folders[lane.name], threads) for lane in opened}


def _report(say: Callable[..., None], found: list[Explored], chosen: list[Explored]) -> None:
    model = model_of(found)
    spared = sum(one.measured is None for one in found)
    floor = 100 * noise_of(found)
    say("%d shapes seen, %d of them measured, %d spared by the latency model", len(found), len(found) - spared, spared)
    if found and not chosen:
        say("none of them is faster than the uncut original by more than the noise floor of %.1f %%", floor)
    else:
        say("noise floor: %.1f %%; what is faster by less is not trained", floor)
    if model is not None:
        say(
            "latency model of %d shapes: error %.1f %% for half of them, %.1f %% for nine in ten",
            model.n,
            100 * model.median_error,
            100 * model.error,
        )
    for one in chosen:
        say(
            "to be trained: %s, latency %.2f of the uncut, divergence %.2f nats",
            " ".join(str(step.parameters["label"]) for step in one.shape.steps(1, 0)),
            one.latency,
            one.probe.divergence,
        )
