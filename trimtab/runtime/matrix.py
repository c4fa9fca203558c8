"""The matrix of targets: format × runtime × device × what carries compression × operating systems, from the table."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from trimtab.runtime.availability import installed, why_unavailable
from trimtab.targets import PRECISIONS, TARGETS, Target
from trimtab.worker import ENVIRONMENTS

# What compression does to the module itself, before any format: each target gets the smaller or changed module.
IN_THE_MODULE = ("pruning", "shortening", "distillation", "clipping", "zeroed weights")
# What a target must carry as a precision, and what it is called in the matrix.
IN_THE_GRAPH = {
    "int8": "INT8",
    "int8-dynamic": "INT8 dynamic",
    "int8-nncf": "INT8 by NNCF",
    "int8-xnnpack": "INT8 for XNNPACK",
    "int8-litert": "INT8 for LiteRT",
    "clustered": "clustering",
    "fp16": "FP16 weights",
    "sparse": "sparse file",
}


@dataclass(frozen=True)
class Row:
    """A target in the matrix.

    Attributes:
        runtime: distributions the loader needs; installed: their versions here, None where one is missing.
        module: what compression of the module it carries. carries: precision → whether it carries it. why_not: of those
            it does not.
        free_axes: whether axes besides the batch may change. why_fixed: why not.
        further_outputs: whether it holds outputs beside the one that decides. why_one: why not.
        unavailable: why it cannot be used on this machine, "" if it can. install: the command that mends that.
    """

    target: str
    format: str
    runtime: tuple[str, ...]
    device: str
    systems: tuple[str, ...]
    module: tuple[str, ...]
    carries: dict[str, bool]
    why_not: str
    free_axes: bool
    why_fixed: str
    further_outputs: bool
    why_one: str
    installed: dict[str, str | None]
    unavailable: str
    install: str

    def to_json(self) -> dict[str, object]:
        """Plain dict, JSON-safe."""
        return asdict(self)


def rows() -> list[Row]:
    """One row a target, in the order of the table."""
    return [
        Row(
            target=name,
            format=entry.format,
            runtime=entry.loads_with,
            device=entry.device,
            systems=entry.systems,
            module=IN_THE_MODULE,
            carries={precision: precision in entry.precisions for precision in PRECISIONS},
            why_not=entry.why_not,
            free_axes=entry.free_axes,
            why_fixed=entry.why_fixed,
            further_outputs=entry.further_outputs,
            why_one=entry.why_one,
            installed=_installed(entry, why),
            unavailable=why,
            install=entry.install,
        )
        for name, entry in TARGETS.items()
        for why in [why_unavailable(name)]
    ]


def _installed(entry: Target, unavailable: str) -> dict[str, str | None]:
    """Versions of what a target needs; of a worker environment that is made, those it was made with."""
    found = {needed: installed(needed) for needed in (*entry.loads_with, *entry.converts_with)}
    workers = () if unavailable else {entry.convert_worker, entry.load_worker} - {""}
    return {**found, **{name: one for worker in workers for name, one in ENVIRONMENTS[worker].versions.items()}}


def markdown() -> str:
    """What of the matrix is the same on every machine, as the Markdown tables of docs/targets.md."""
    head = ["target", "format", "runtime", "device", "operating systems", "install"]
    where, what, shapes = [], [], []
    for name, entry in TARGETS.items():
        runtime, systems = ", ".join(entry.loads_with), ", ".join(entry.systems)
        where.append([f"`{name}`", entry.format, runtime, entry.device, systems, f"`{entry.install}`"])
        held = ["yes" if precision in entry.precisions else "–" for precision in IN_THE_GRAPH]
        what.append([f"`{name}`", "yes", *held, entry.why_not])
        whys = [why for why in (entry.why_fixed, entry.why_one) if why]
        kept = ["yes" if held else "–" for held in (entry.free_axes, entry.further_outputs)]
        shapes.append([f"`{name}`", "yes", *kept, "; ".join(whys)])
    carried = ["target", ", ".join(IN_THE_MODULE), *IN_THE_GRAPH.values(), "why not"]
    free = ["target", "any number of rows", "free axes", "further outputs", "why not"]
    return "\n".join([_table(head, where), _table(carried, what), _table(free, shapes)])


def _table(head: list[str], body: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
