"""The search: explore, then successive halving; what comes of it are the plans of the candidates worth converting."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from prefect.logging import get_run_logger

from tasks.bench import ReleaseRun
from tasks.candidates import made
from tasks.edges import after, ended, quoted
from tasks.explore import explore_shapes, open_study
from tasks.search_record import record_rung, record_search, record_shapes
from trimtab.candidate import Candidate, Step, digest_of
from trimtab.compress.assess import validated
from trimtab.compress.make import planned
from trimtab.compress.search.course import CONTROL, Lap, Limit, Terms, Way, run_course
from trimtab.compress.search.grid import distilled, finished
from trimtab.compress.search.halving import worth_keeping
from trimtab.compress.search.pace import seconds_an_epoch
from trimtab.compress.search.record import SearchRecord, ways_of
from trimtab.compress.search.study import Study
from trimtab.recipe.schema import ShapeSearch
from trimtab.verify.latency import host_digest
from trimtab.workbench import Workbench

Plan = tuple[Step, ...]
MARGIN = 0.95  # of the time limit: converting and measuring come after, two to four minutes


def searched(bench: Workbench, run: ReleaseRun, original: Candidate) -> list[Plan]:
    """The plans: the original, and each shape on the front as far as it was trained; each with every last step."""
    settings, compress = bench.recipe.compress.search, bench.recipe.compress
    assert settings is not None
    started, host = time.monotonic(), host_digest()
    arguments = quoted(bench, original.to_json(), host)
    found = ended(bench, "explore", explore_shapes(*arguments, wait_for=after(bench, original.id), return_state=True))
    drops = settings.drops or [bench.recipe.budget.max_drop]
    record_shapes(run, SearchRecord.of(found, [], drops), host)
    until = None if settings.minutes is None else started + 60 * MARGIN * settings.minutes
    study = open_study(bench, original, host, [])
    ways = Halving(bench, run, original, settings, study, found, until).run()
    record_search(run, found, SearchRecord.of(found, ways, drops))
    kept = {CONTROL, *(one.key for one in worth_keeping([way.runner for way in ways], settings.shapes))}
    shapes = [way.steps for way in ways if way.runner.key in kept]
    run.unwanted = {(one["precision"], one["target"]) for one in found["unwanted"]}
    return finished(compress, bench.recipe.train.seed, bench.recipe.targets, shapes, run.unwanted)


class Halving:
    """Trains the promising shapes rung by rung; every candidate is kept, so that a killed search goes on."""

    def __init__(
        self,
        bench: Workbench,
        run: ReleaseRun,
        original: Candidate,
        settings: ShapeSearch,
        study: Study,
        found: dict[str, Any],
        until: float | None,
    ) -> None:
        self.bench, self.release, self.original, self.settings = bench, run, original, settings
        self.study, self.found, self.until = study, found, until
        self.log = get_run_logger()
        distil = bench.recipe.compress.distil
        shapes = [one["shape"] for one in found["shapes"]]
        self.plan = digest_of([settings.model_dump(), distil and distil.model_dump(), shapes])[:16]

    def run(self) -> list[Way]:
        """All shapes, each as far as it came; the control among them if there is one."""
        distil = self.bench.recipe.compress.distil
        ways = ways_of(self.found, self.found["rounding"]["round_to"], self.bench.recipe.train.seed)
        if distil is None:
            return ways
        drops = self.settings.drops or [self.bench.recipe.budget.max_drop]
        control, task = self.settings.reference == CONTROL, self.bench.task
        terms = Terms(distil.epochs, drops, self.found["accuracy"], control, self.settings.shapes, task.drop)
        limit = None if self.until is None else Limit(self._left, self._pace, self._remember)
        return run_course(ways, terms, self._train, limit, self._trained, self._say)

    def _train(self, way: Way, epochs: int) -> Lap | None:
        """The candidate of this way after so many epochs more, made if it is not in the store."""
        total = sum(way.runner.epochs) + epochs
        last = distilled(self.bench.recipe.compress, self.bench.recipe.train.seed, epochs, f"distil-{total}")
        steps = (*way.steps, *last)
        parent = planned(self.original, way.steps).id if way.runner.epochs else self.original.id
        known = self.bench.stored(planned(self.original, steps).id) is not None
        begun = time.monotonic()
        candidate = made(self.bench, self.original, steps, parent)
        if candidate is None:
            return None
        seconds = None if known else (time.monotonic() - begun) / epochs
        return Lap(steps, validated(self.bench, candidate), seconds)

    def _trained(self, way: Way, accuracy: float) -> None:
        record_rung(self.release, planned(self.original, way.steps), way, accuracy, self.bench.task)

    def _left(self) -> float:
        assert self.until is not None
        return self.until - time.monotonic()

    def _remember(self, key: str, decide: Callable[[], Any]) -> Any:
        """What was decided for this plan before it was killed, or what is decided now."""
        key = f"{key} of {self.plan}"
        known = self.study.recall(key)
        return known if known is not None else self.study.decide(key, decide())

    def _pace(self) -> float:
        """Seconds an epoch of the shapes that are left takes, before any was trained."""
        settings = self.bench.recipe.compress.distil
        assert settings is not None
        share = [float(one["latency"]) for one in self.found["shapes"]]
        return seconds_an_epoch(self.bench, self.original, settings) * sum(share) / len(share)

    def _say(self, left: Sequence[Way]) -> None:
        for way in sorted(left, key=lambda way: way.runner.latency):
            self.log.info(
                "after %d epochs: %s, latency %.2f, drop %s",
                sum(way.runner.epochs),
                " ".join(str(step.parameters["label"]) for step in way.steps),
                way.runner.latency,
                self.bench.task.show_drop(way.runner.drops[-1]),
            )
