"""A lane is a way to the runtime: a last step on the graph, or none, and a target. A shape is measured in some lanes.

For measuring, the graph is rewritten as it would be for a release, but calibrated on few rows: the ranges that are
found decide the answers and not the latency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from trimtab.candidate import Step
from trimtab.compress.convert_candidate import GRAPH_FILES
from trimtab.compress.graph_steps import FLOAT_GRAPH, GRAPH_STEPS, form_of
from trimtab.compress.search.grid import on_the_graph, precision
from trimtab.convert import carries, convert
from trimtab.convert.graph import deployed, spec_of
from trimtab.recipe.schema import Compress, Target
from trimtab.workbench import Workbench

CALIBRATION_ROWS = 32


@dataclass(frozen=True)
class Lane:
    """A last step (None: FP32) on a target."""

    step: Step | None
    target: str

    @property
    def precision(self) -> str:
        """As `convert.carries` takes it."""
        return precision([self.step] if self.step else [])

    @property
    def name(self) -> str:
        """E.g. "int8 on onnxruntime-cpu"."""
        return f"{self.step.parameters['label'] if self.step else 'fp32'} on {self.target}"


def lanes_of(compress: Compress, targets: Sequence[Target]) -> list[Lane]:
    """Every lane the recipe allows."""
    return [
        lane
        for step in [None, *(step for step in on_the_graph(compress, targets) if step.method != "pack_sparse")]
        for target in targets
        if carries(target, (lane := Lane(step, target)).precision)
    ]


def fastest_of_each_target(lanes: Sequence[Lane], latency: Mapping[str, float]) -> list[Lane]:
    """One lane a target, the fastest of the whole list first.

    Args:
        latency: lane's name → latency of the uncut original there.
    """
    ordered = sorted(lanes, key=lambda lane: (latency[lane.name], lane.name))
    return [lane for index, lane in enumerate(ordered) if lane.target not in {o.target for o in ordered[:index]}]


def build_lanes(bench: Workbench, module: nn.Module, lanes: Sequence[Lane], folder: Path) -> dict[str, Path]:
    """Write the module in each lane: lane's name → folder a Predictor loads.

    Raises:
        ConversionError, UnsupportedError, CalibrationError: as for a release.
    """
    spec = spec_of(bench.example, bench.classes)
    source = deployed(module, bench.recipe.preprocess)
    built: dict[str, Path] = {}

    def written(lane: Lane, graph: nn.Module | Path) -> Path:
        target = folder / lane.name
        target.mkdir()
        convert("sketch", lane.target, graph, bench.example, spec, target, lane.precision)
        return target

    def in_fp32(target: str) -> Path:
        lane = Lane(None, target)
        if lane.name not in built:
            built[lane.name] = written(lane, source)
        return built[lane.name]

    rewritten: dict[str, Path] = {}
    for lane in lanes:
        if lane.step is None:
            in_fp32(lane.target)
            continue
        form = form_of(lane.step.method)
        if lane.precision not in rewritten:
            place = folder / lane.precision
            place.mkdir()
            rewritten[lane.precision] = place / GRAPH_FILES[form]
            float_build = in_fp32(FLOAT_GRAPH[form])
            GRAPH_STEPS[lane.step.method](bench, float_build, _on_few_rows(lane.step), rewritten[lane.precision])
        built[lane.name] = written(lane, rewritten[lane.precision])
    return {lane.name: built[lane.name] for lane in lanes}


def _on_few_rows(step: Step) -> Step:
    """The step as it is measured: on few calibration rows, and without a search of its own for layers to keep in float,
    which would judge weights that are not trained yet."""
    parameters = {**step.parameters, **({"max_drop": None} if "max_drop" in step.parameters else {})}
    rows = parameters.get("calibration_rows")
    if rows is not None:
        least = max(CALIBRATION_ROWS, int(parameters.get("minimum_rows", 0)))
        parameters["calibration_rows"] = min(rows, least)
    return Step(step.method, parameters, step.seed)
