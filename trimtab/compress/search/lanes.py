"""A lane is a way to the runtime: a last step on the graph, or none, and a target. A shape is measured in some lanes.

For measuring, the graph is rewritten as it would be for a release, but calibrated on few rows: the ranges that are
found decide the answers and not the latency.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from trimtab.candidate import Step
from trimtab.compress.convert_candidate import GRAPH_FILES
from trimtab.compress.graph_steps import FLOAT_GRAPH, GRAPH_STEPS, Source, form_of
from trimtab.compress.search.grid import on_the_graph, precision
from trimtab.convert import carries, convert
from trimtab.convert.code import code_of
from trimtab.convert.of_recipe import deployed_of, spec_for
from trimtab.convert.targets import SPEC_FILE
from trimtab.errors import UnsupportedError
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


@dataclass(frozen=True)
class LaneFacts:
    """The uncut original in a lane.

    Attributes:
        latency: over eager PyTorch's, geometric mean over batch sizes. size_bytes: as shipped.
    """

    latency: float
    size_bytes: int


def not_worth_it(
    lanes: Sequence[Lane], facts: Mapping[str, LaneFacts], noise_floor: float
) -> dict[tuple[str, str], str]:
    """(precision, target) → why nothing is converted to it: another lane of the target is faster by more than the noise
    floor, no larger, and no less exact.

    What is faster and smaller than FP32 does not replace it, since what that loses is not known before it is tried: no
    less exact is FP32 beside all others, and one INT8 beside another. INT8 that keeps layers in float (`max_drop`) is
    measured without them, and is not compared.
    """
    found = {}
    for lane in lanes:
        if lane.step is None or lane.step.parameters.get("max_drop") is not None:
            continue
        for other in lanes:
            if other.target == lane.target and other != lane and _as_exact(other, lane):
                own, its = facts[lane.name], facts[other.name]
                if own.latency > its.latency * (1 + noise_floor) and own.size_bytes >= its.size_bytes:
                    found[lane.precision, lane.target] = (
                        f"{other.name} takes {its.latency / own.latency:.2f} of its time and has "
                        f"{its.size_bytes:,} bytes of its {own.size_bytes:,}"
                    )
    return found


def _as_exact(other: Lane, lane: Lane) -> bool:
    return other.step is None or (other.precision.startswith("int8") and lane.precision.startswith("int8"))


def fastest_of_each_target(lanes: Sequence[Lane], latency: Mapping[str, float]) -> list[Lane]:
    """One lane a target, the fastest of the whole list first.

    Args:
        latency: lane's name → latency of the uncut original there.
    """
    ordered = sorted(lanes, key=lambda lane: (latency[lane.name], lane.name))
    return [lane for index, lane in enumerate(ordered) if lane.target not in {o.target for o in ordered[:index]}]


def build_lanes(
    bench: Workbench, module: nn.Module, lanes: Sequence[Lane], folder: Path
) -> tuple[dict[str, Path], list[str]]:
    """Write the module in each lane that can carry it.

    Returns:
        Lane's name → folder a Predictor loads; and a line for each lane that is closed to this module, with the reason.

    Raises:
        UnsupportedError: all of them are.
        ConversionError, CalibrationError: as for a release.
    """
    sketch, built, closed = _Sketch(bench, module, folder), dict[str, Path](), list[str]()
    for lane in lanes:
        try:
            built[lane.name] = sketch.in_lane(lane)
        except UnsupportedError as error:
            closed.append(f"{lane.name}: {error}")
    if not built:
        raise UnsupportedError("; ".join(closed), where="compress.search")
    return built, closed


def bytes_of(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """Lane's name → bytes shipped of what `build_lanes` wrote there."""
    return {
        name: sum(
            path.stat().st_size for path in (folder / name).rglob("*") if path.is_file() and path.name != SPEC_FILE
        )
        for name in names
    }


class _Sketch:
    """A module in the lanes it is asked for; what several lanes need is written once."""

    def __init__(self, bench: Workbench, module: nn.Module, folder: Path) -> None:
        self.bench, self.folder = bench, folder
        self.spec, self.source = spec_for(bench), deployed_of(bench, module)
        self.written: dict[str, Path] = {}
        self.rewritten: dict[str, Path] = {}
        self.refused: dict[str, UnsupportedError] = {}  # precision → why; its other targets hear the same

    def in_lane(self, lane: Lane) -> Path:
        """The folder of the build in this lane."""
        if lane.name not in self.written:
            graph = self.source if lane.step is None else self._graph(lane, lane.step)
            target = self.folder / lane.name
            shutil.rmtree(target, ignore_errors=True)  # of a conversion that was refused before
            target.mkdir()
            code, opset = code_of(self.bench, {}), self.bench.recipe.convert.opset
            convert("sketch", lane.target, graph, self.bench.example, self.spec, target, lane.precision, code, opset)
            self.written[lane.name] = target
        return self.written[lane.name]

    def _graph(self, lane: Lane, step: Step) -> Path:
        if lane.precision in self.refused:
            raise self.refused[lane.precision]
        if lane.precision not in self.rewritten:
            form = form_of(step.method)
            place = self.folder / lane.precision
            place.mkdir(exist_ok=True)
            source = Source(self.in_lane(Lane(None, FLOAT_GRAPH[form])), lambda: self.source)
            try:
                GRAPH_STEPS[step.method](self.bench, source, _on_few_rows(step), place / GRAPH_FILES[form])
            except UnsupportedError as error:
                self.refused[lane.precision] = error
                raise
            self.rewritten[lane.precision] = place / GRAPH_FILES[form]
        return self.rewritten[lane.precision]


def _on_few_rows(step: Step) -> Step:
    """The step as it is measured: on few calibration rows, and without a search of its own for layers to keep in float,
    which would judge weights that are not trained yet."""
    parameters = {**step.parameters, **({"max_drop": None} if "max_drop" in step.parameters else {})}
    rows = parameters.get("calibration_rows")
    if rows is not None:
        least = max(CALIBRATION_ROWS, int(parameters.get("minimum_rows", 0)))
        parameters["calibration_rows"] = min(rows, least)
    return Step(step.method, parameters, step.seed)
