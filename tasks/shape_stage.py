"""Where shapes are measured: built in their lanes, beside the uncut original in its fastest one."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from prefect.logging import get_run_logger
from torch import nn

from tasks.select import screening
from trimtab import runtime
from trimtab.candidate import Candidate
from trimtab.compress.assess import eager
from trimtab.compress.search.explore import Measured, lane_latency
from trimtab.compress.search.grid import ROUND_TO
from trimtab.compress.search.lanes import (
    Lane,
    LaneFacts,
    build_lanes,
    bytes_of,
    fastest_of_each_target,
    lanes_of,
    not_worth_it,
)
from trimtab.compress.search.rounding import Rounding, decide
from trimtab.compress.search.shape import Shape
from trimtab.compress.search.study import Study
from trimtab.compress.search.survey import Survey
from trimtab.errors import CalibrationError, ConversionError, UnsupportedError
from trimtab.verify.latency import Timings, measure
from trimtab.workbench import Workbench

LANES, ROUNDING = "lanes of the uncut original", "rounding"  # what the study remembers of it


class Stage:
    """Builds shapes in their lanes and measures them; what is measured once a study is not measured again."""

    def __init__(self, bench: Workbench, original: Candidate, survey: Survey, study: Study, folder: Path) -> None:
        self.bench, self.survey, self.study, self.folder = bench, survey, study, folder
        self.inputs = bench.splits["validation"].inputs
        self.eager = eager(bench, original)
        self.every = lanes_of(bench.recipe.compress, bench.recipe.targets)
        self._uncut: dict[str, Any] = {}

    @cached_property
    def known(self) -> tuple[dict[str, LaneFacts], float]:
        """The uncut original in every lane that it can be built in, and the noise floor of that measurement."""
        kept = self.study.recall(LANES) or self.study.decide(LANES, self._lanes())
        return {name: LaneFacts(**facts) for name, facts in kept["lanes"].items()}, float(kept["noise_floor"])

    @cached_property
    def lanes(self) -> list[Lane]:
        """The fastest lane of each target, the fastest of all first."""
        facts, _ = self.known
        open_ones = [lane for lane in self.every if lane.name in facts]
        return fastest_of_each_target(open_ones, {name: one.latency for name, one in facts.items()})

    @cached_property
    def uncut(self) -> Any:
        """The original in the fastest lane of all."""
        fastest = self.lanes[0]
        if fastest.name not in self._uncut:
            self._uncut = self._built(self.survey.module, [fastest], "uncut")
        return self._uncut[fastest.name]

    def unwanted(self) -> dict[tuple[str, str], str]:
        """(precision, target) → why it is not worth converting to."""
        facts, noise = self.known
        return not_worth_it([lane for lane in self.every if lane.name in facts], facts, noise)

    def measure(self, shape: Shape) -> Measured:
        """Latency of a shape in each target's fastest lane."""
        lanes, uncut = self.lanes, self.uncut
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            timings = self._timed(uncut, self._built(self.survey.cut(shape), lanes, folder))
        return Measured(_speedups(timings), timings.itself)

    def rounding(self) -> Rounding:
        """What channel counts are rounded to, measured unless the study knows it."""
        if (kept := self.study.recall(ROUNDING)) is not None:
            return Rounding.from_json(kept)
        try:
            found = self._rounding()
        except (UnsupportedError, ConversionError, CalibrationError) as error:
            found = Rounding(ROUND_TO, f"not measured: {error}")
        return Rounding.from_json(self.study.decide(ROUNDING, found.to_json()))

    def _rounding(self) -> Rounding:
        modules = self.survey.widths()
        if not modules:
            return Rounding(ROUND_TO, "no group of channels is wide enough to measure on")
        uncut, built = self.uncut, dict[tuple[str, int], Any]()
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            for offset, module in modules.items():
                opened = self._built(module, self.lanes, f"{folder}/{offset}")
                built |= {(lane.target, offset): opened[lane.name] for lane in self.lanes if lane.name in opened}
            timings = self._timed(uncut, {f"{target} {offset}": one for (target, offset), one in built.items()})
        speedups = _speedups(timings)
        targets = [lane.target for lane in self.lanes if all((lane.target, offset) in built for offset in modules)]
        if not targets:
            return Rounding(ROUND_TO, "not every width could be built for a target")
        latency = {t: {offset: lane_latency(speedups[f"{t} {offset}"]) for offset in modules} for t in targets}
        return decide(latency, max(timings.noise_floor.values()))

    def _lanes(self) -> dict[str, Any]:
        self._uncut = self._built(self.survey.module, self.every, "uncut")
        timings = self._timed(self.eager, self._uncut)
        speedups, size = _speedups(timings), bytes_of(self.folder / "uncut", self._uncut)
        facts = {name: asdict(LaneFacts(lane_latency(speedups[name]), size[name])) for name in self._uncut}
        return {"lanes": facts, "noise_floor": max(timings.noise_floor.values())}

    def _timed(self, baseline: Any, predictors: Mapping[str, Any]) -> Timings:
        with self.bench.measuring(), self.bench.stopwatch.on("measuring"):
            return measure(baseline, predictors, self.inputs, screening(self.bench))

    def _built(self, module: nn.Module, lanes: list[Lane], folder: str) -> dict[str, Any]:
        place = self.folder / folder
        place.mkdir(exist_ok=True, parents=True)
        folders, closed = build_lanes(self.bench, module, lanes, place)
        for line in closed:
            get_run_logger().info("not a lane for it: %s", line)
        threads = self.bench.recipe.measure.threads
        opened = [lane for lane in lanes if lane.name in folders]
        return {lane.name: runtime.load(lane.target, folders[lane.name], threads) for lane in opened}


def _speedups(timings: Timings) -> dict[str, dict[int, float]]:
    """Name → batch size → times as fast as the baseline."""
    return {
        name: {batch: one.speedup for batch, one in batches.items()}
        for name, batches in timings.by_name.items()
        if name != "baseline"
    }
