"""The search: explore, then successive halving; what comes of it are the plans of the candidates worth converting."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from prefect.logging import get_run_logger

from tasks.bench import ReleaseRun
from tasks.candidates import made
from tasks.edges import after, ended, quoted
from tasks.explore import explore_shapes, open_study
from trimtab.candidate import Candidate, Step, digest_of
from trimtab.compress.make import planned
from trimtab.compress.search.grid import distilled, unsearched, with_last_steps
from trimtab.compress.search.halving import Rung, Runner, fit_in, promote, rungs, worth_keeping
from trimtab.compress.search.pace import seconds_an_epoch
from trimtab.compress.search.shape import Shape
from trimtab.compress.search.study import Study
from trimtab.errors import UnsupportedError
from trimtab.recipe.schema import ShapeSearch
from trimtab.verify.latency import host_digest
from trimtab.workbench import Workbench

CONTROL = "control"
Plan = tuple[Step, ...]
MARGIN = 0.9  # of the time that is left: converting and measuring come after


@dataclass(frozen=True)
class Way:
    """A shape on its way: its runner, and the steps of the furthest candidate made of it."""

    runner: Runner
    steps: Plan


def searched(bench: Workbench, run: ReleaseRun, original: Candidate) -> list[Plan]:
    """The plans: the original, and each shape on the front as far as it was trained; each with every last step."""
    settings = bench.recipe.compress.search
    assert settings is not None
    started, host = time.monotonic(), host_digest()
    arguments = quoted(bench, original.to_json(), host)
    found = ended(bench, "explore", explore_shapes(*arguments, wait_for=after(bench, original.id), return_state=True))
    study = open_study(bench, original, host, [])
    until = None if settings.minutes is None else started + 60 * MARGIN * settings.minutes
    ways = Halving(bench, run, original, settings, study, found, until).run()
    _record(run, found, ways)
    kept = {one.key for one in worth_keeping([way.runner for way in ways], settings.shapes)}
    shapes = [way.steps for way in ways if way.runner.key in kept or way.runner.key == CONTROL]
    starts = [*unsearched(bench.recipe.compress, bench.recipe.train.seed), *shapes]
    once = [start for index, start in enumerate(starts) if start not in starts[:index]]
    seed = bench.recipe.train.seed
    compress, targets = bench.recipe.compress, bench.recipe.targets
    return [steps for start in once for steps in with_last_steps(compress, start, targets, seed)]


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
        self.drops = settings.drops or [bench.recipe.budget.max_drop]
        self.log = get_run_logger()
        self.seconds: list[float] = []
        distil = bench.recipe.compress.distil
        shapes = [one["shape"] for one in found["shapes"]]
        self.plan = digest_of([settings.model_dump(), distil and distil.model_dump(), shapes])[:16]

    def run(self) -> list[Way]:
        """All shapes, each as far as it came; the control among them if there is one."""
        prune, seed = self.bench.recipe.compress.prune, self.bench.recipe.train.seed
        shapes = [(Shape.from_json(one["shape"]), float(one["latency"])) for one in self.found["shapes"]]
        ways = [
            Way(Runner(shape.key, latency, (), ()), shape.steps(prune.round_to if prune else 1, seed))
            for shape, latency in shapes
        ]
        settings = self.bench.recipe.compress.distil
        if settings is None or not ways:
            return ways
        control = Way(Runner(CONTROL, 1.0, (), ()), ()) if self.settings.reference == CONTROL else None
        left, behind = ways, list[Way]()
        steps = self._in_time(rungs(len(ways), settings.epochs, len(self.drops)), control is not None)
        for index in range(len(steps)):
            if index:
                steps[index:] = self._in_time(steps[index:], control is not None)
                kept = [
                    one.key
                    for one in promote(
                        [way.runner for way in left], steps[index].shapes, self.drops, sum(one.epochs for one in steps)
                    )
                ]
                behind += [way for way in left if way.runner.key not in kept]
                left = [way for way in left if way.runner.key in kept]
            rung, reference = steps[index], self.found["accuracy"]
            if control is not None:
                control, reference = self._trained(control, rung, None)
                if not control.runner.drops:
                    raise UnsupportedError(
                        "the uncut original cannot be trained on, so there is no control to count drops from",
                        where="compress.search.reference",
                        fix="see the warning before this for the reason, or set it to original",
                    )
            left = [way for way in (self._trained(way, rung, reference)[0] for way in left) if way.runner.drops]
            self._say(rung, left)
        return [*left, *behind, *([control] if control is not None else [])]

    def _trained(self, way: Way, rung: Rung, reference: float | None) -> tuple[Way, float]:
        """The way after so many epochs more, and the accuracy it has; unchanged where it cannot be made."""
        total = sum(way.runner.epochs) + rung.epochs
        last = distilled(self.bench.recipe.compress, self.bench.recipe.train.seed, rung.epochs, f"distil-{total}")
        steps = (*way.steps, *last)
        parent = planned(self.original, way.steps).id if way.runner.epochs else self.original.id
        begun = time.monotonic()
        known = self.bench.stored(planned(self.original, steps).id) is not None
        candidate = made(self.bench, self.original, steps, parent)
        if candidate is None:
            return replace(way, runner=replace(way.runner, drops=())), 0.0
        if not known:
            self.seconds.append((time.monotonic() - begun) / rung.epochs)
        accuracy = float(candidate.facts["validation_accuracy"])
        drop = 0.0 if reference is None else reference - accuracy
        runner = replace(way.runner, drops=(*way.runner.drops, drop), epochs=(*way.runner.epochs, rung.epochs))
        _log_rung(self.release, candidate, runner, accuracy)
        return Way(runner, steps), accuracy

    def _in_time(self, left: Sequence[Rung], control: bool) -> list[Rung]:
        """The rungs that are left, with fewer epochs where the time limit asks for it; decided once."""
        if self.until is None:
            return list(left)
        key = f"{len(left)} rungs left of {self.plan}"
        if (decided := self.study.recall(key)) is not None:
            return [Rung(*one) for one in decided]
        each = sum(self.seconds) / len(self.seconds) if self.seconds else self._pace()
        shorter = fit_in(left, each, self.until - time.monotonic(), int(control))
        asked = [[rung.shapes, rung.epochs] for rung in shorter]
        decided = self.study.decide(key, asked)
        return [Rung(*one) for one in decided]

    def _pace(self) -> float:
        """Seconds an epoch of the shapes that are left takes, before any was trained."""
        settings = self.bench.recipe.compress.distil
        assert settings is not None
        share = [float(one["latency"]) for one in self.found["shapes"]]
        return seconds_an_epoch(self.bench, self.original, settings) * sum(share) / len(share)

    def _say(self, rung: Rung, left: Sequence[Way]) -> None:
        for way in sorted(left, key=lambda way: way.runner.latency):
            self.log.info(
                "after %d epochs: %s, latency %.2f, drop %.2f points",
                sum(way.runner.epochs),
                " ".join(str(step.parameters["label"]) for step in way.steps),
                way.runner.latency,
                100 * way.runner.drops[-1],
            )


def _log_rung(run: ReleaseRun, candidate: Candidate, runner: Runner, accuracy: float) -> None:
    """What a rung left of a shape, as a child run in MLflow."""
    run.tracking.child_run(
        run.run_id,
        f"{candidate.id}@rung",
        f"{candidate.label}, trained",
        {"methods": " ".join(step.method for step in candidate.lineage), "shape": runner.key},
        {
            "validation_accuracy": accuracy,
            "validation_drop": runner.drops[-1],
            "latency_before_training": runner.latency,
            "epochs": float(sum(runner.epochs)),
        },
        {"trimtab.shape": runner.key},
    )


def _record(run: ReleaseRun, found: dict[str, Any], ways: Sequence[Way]) -> None:
    """The search as an artifact of the release's run in MLflow."""
    whole = {
        **found,
        "trained": [
            {
                "shape": way.runner.key,
                "latency": way.runner.latency,
                "drops": list(way.runner.drops),
                "epochs": list(way.runner.epochs),
                "steps": [step.parameters["label"] for step in way.steps],
            }
            for way in ways
        ],
    }
    run.tracking.log_text(run.run_id, json.dumps(whole, indent=1), "search.json")
