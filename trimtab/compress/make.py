"""One candidate from the original by the steps of its plan: first those on the torch module, then one on the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from trimtab.candidate import Candidate, Step
from trimtab.compress.batchnorm import reestimate
from trimtab.compress.cluster import cluster
from trimtab.compress.convert_candidate import convert_candidate
from trimtab.compress.distil import distil
from trimtab.compress.half import half
from trimtab.compress.opening import open_torch
from trimtab.compress.prune import prune
from trimtab.compress.quantize import quantize
from trimtab.compress.replay import History
from trimtab.compress.shorten import shorten
from trimtab.compress.weights import save_candidate
from trimtab.data import Array
from trimtab.errors import UnsupportedError
from trimtab.recipe.schema import Distil, Quantize
from trimtab.store import folder_digests, new_folder
from trimtab.workbench import Workbench

FLOAT_GRAPH = "onnxruntime-cpu"  # the target whose files are the FP32 ONNX graph
NORM_ROWS = 1024  # training rows over which batch norms are re-estimated after a cut
RANKING_ROWS = 256  # training rows on which blocks are ranked by what dropping them changes
Report = Callable[[int, int, dict[str, float]], None]
Facts = dict[str, Any]


def planned(original: Candidate, steps: Sequence[Step]) -> Candidate:
    """The candidate's identity before it is made."""
    return Candidate((*original.lineage, *steps), original.inputs)


def make(bench: Workbench, original: Candidate, steps: Sequence[Step], progress: Report | None = None) -> Candidate:
    """Apply the steps and keep the result in the store.

    A step on the graph (quantize, cluster, half) comes last: it works on the ONNX graph of the candidate before it,
    which is made first if needed.

    Raises:
        UnsupportedError: a step cannot be applied to this model, with the reason.
        CalibrationError: the calibration rows are not fit for use.
    """
    if steps and steps[-1].method in GRAPH_STEPS:
        return _rewritten(bench, original, steps)
    return _shaped(bench, original, steps, progress)


def _shaped(bench: Workbench, original: Candidate, steps: Sequence[Step], progress: Report | None) -> Candidate:
    model = open_torch(bench, original)
    history: History = []
    facts: Facts = {}
    for step in steps:
        if step.method == "distil":
            _distil(bench, original, model, step, progress)
        elif step.method in MODULE_STEPS:
            cuts, found = MODULE_STEPS[step.method](bench, model, step)
            history += cuts
            facts |= found
            reestimate(model, _rows(bench, NORM_ROWS), bench.forward)
        else:
            raise UnsupportedError(f"unknown step {step.method!r}", where="compress")
    planned_candidate = planned(original, steps)
    with new_folder(bench.folder(planned_candidate.id)) as draft:
        save_candidate(model, history, draft)
        files = folder_digests(draft)
    facts["parameters"] = sum(p.numel() for p in model.parameters())
    return Candidate(planned_candidate.lineage, planned_candidate.inputs, "torch", files, facts)


def _prune(bench: Workbench, model: nn.Module, step: Step) -> tuple[History, Facts]:
    asked = step.parameters
    pruned = prune(
        model,
        bench.example,
        bench.forward,
        asked["norm"],
        asked["ratio"],
        asked["round_to"],
        data=bench.splits["train"],
        seed=step.seed or 0,
    )
    return pruned.history, {"achieved": pruned.removed_share, "skipped": list(pruned.skipped)}


def _shorten(bench: Workbench, model: nn.Module, step: Step) -> tuple[History, Facts]:
    shortened = shorten(model, _rows(bench, RANKING_ROWS), bench.forward, step.parameters["blocks"])
    return shortened.history, {"dropped": list(shortened.dropped)}


def _distil(bench: Workbench, original: Candidate, model: nn.Module, step: Step, progress: Report | None) -> None:
    distil(
        model,
        open_torch(bench, original),
        bench.splits["train"],
        bench.splits["validation"],
        Distil.model_validate(_settings(step)),
        forward=bench.forward,
        seed=step.seed or 0,
        progress=progress,
    )


def _rows(bench: Workbench, count: int) -> dict[str, Array]:
    """Training rows spread evenly over the split: the first ones may all be of one class, or all be old."""
    train = bench.splits["train"]
    chosen = np.linspace(0, len(train) - 1, min(len(train), count)).round().astype(np.int64)
    return {name: values[chosen] for name, values in train.inputs.items()}


def _settings(step: Step) -> dict[str, Any]:
    """A step's parameters as the recipe's section has them: identity and result come from the same values."""
    return {key: value for key, value in step.parameters.items() if key != "label"}


def _rewritten(bench: Workbench, original: Candidate, steps: Sequence[Step]) -> Candidate:
    parent = planned(original, steps[:-1])
    result = planned(original, steps)
    if bench.stored_converted(parent.id, FLOAT_GRAPH) is None:
        bench.keep_converted(convert_candidate(bench, _stored(bench, parent), FLOAT_GRAPH))
    graph = bench.target_folder(parent.id, FLOAT_GRAPH) / "model.onnx"
    with new_folder(bench.folder(result.id)) as draft:
        facts = GRAPH_STEPS[steps[-1].method](bench, graph, steps[-1], draft / "model.onnx")
        files = folder_digests(draft)
    return Candidate(result.lineage, result.inputs, "onnx", files, facts)


def _quantize(bench: Workbench, graph: Path, step: Step, out: Path) -> Facts:
    train = bench.splits["train"].inputs
    settings = Quantize.model_validate(_settings(step))
    return quantize(graph, train, train, settings, out, judged_on=bench.splits["validation"])


def _cluster(bench: Workbench, graph: Path, step: Step, out: Path) -> Facts:
    return cluster(graph, step.parameters["bits"], out)


def _half(bench: Workbench, graph: Path, step: Step, out: Path) -> Facts:
    return half(graph, out)


MODULE_STEPS: Mapping[str, Callable[[Workbench, nn.Module, Step], tuple[History, Facts]]] = {
    "prune": _prune,
    "shorten": _shorten,
}
GRAPH_STEPS: Mapping[str, Callable[[Workbench, Path, Step, Path], Facts]] = {
    "quantize": _quantize,
    "cluster": _cluster,
    "half": _half,
}


def _stored(bench: Workbench, planned_candidate: Candidate) -> Candidate:
    found = bench.stored(planned_candidate.id)
    if found is None:
        raise UnsupportedError(
            f"the candidate it is made from ({planned_candidate.label}) could not be made", where="compress"
        )
    return found
