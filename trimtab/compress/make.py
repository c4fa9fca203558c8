"""One candidate from the original by the steps of its plan: prune, distil, quantize."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from trimtab.candidate import Candidate, Step
from trimtab.compress.convert_candidate import convert_candidate
from trimtab.compress.distil import distil
from trimtab.compress.opening import open_torch
from trimtab.compress.prune import prune
from trimtab.compress.quantize import quantize
from trimtab.compress.weights import save_candidate
from trimtab.errors import UnsupportedError
from trimtab.recipe.schema import Distil, Quantize
from trimtab.store import folder_digests, new_folder
from trimtab.workbench import Workbench

FLOAT_GRAPH = "onnxruntime-cpu"  # the target whose files are the FP32 ONNX graph
Report = Callable[[int, int, dict[str, float]], None]


def planned(original: Candidate, steps: Sequence[Step]) -> Candidate:
    """The candidate's identity before it is made."""
    return Candidate((*original.lineage, *steps), original.inputs)


def make(bench: Workbench, original: Candidate, steps: Sequence[Step], progress: Report | None = None) -> Candidate:
    """Apply the steps and keep the result in the store.

    A quantize step comes last: it works on the ONNX graph of the candidate before it, which is made first if needed.

    Raises:
        UnsupportedError: a step cannot be applied to this model, with the reason.
        CalibrationError: the calibration rows are not fit for use.
    """
    if steps and steps[-1].method == "quantize":
        return _quantized(bench, original, steps)
    return _shaped(bench, original, steps, progress)


def _shaped(bench: Workbench, original: Candidate, steps: Sequence[Step], progress: Report | None) -> Candidate:
    model = open_torch(bench, original)
    history: list[Any] = []
    facts: dict[str, Any] = {}
    for step in steps:
        if step.method == "prune":
            pruned = prune(
                model,
                bench.example,
                bench.forward,
                step.parameters["norm"],
                step.parameters["ratio"],
                step.parameters["round_to"],
            )
            history, facts = pruned.history, {"achieved": pruned.removed_share, "skipped": list(pruned.skipped)}
        elif step.method == "distil":
            _distil(bench, original, model, step, progress)
        else:
            raise UnsupportedError(f"unknown step {step.method!r}", where="compress")
    planned_candidate = planned(original, steps)
    with new_folder(bench.folder(planned_candidate.id)) as draft:
        save_candidate(model, history, draft)
        files = folder_digests(draft)
    facts["parameters"] = sum(p.numel() for p in model.parameters())
    return Candidate(planned_candidate.lineage, planned_candidate.inputs, "torch", files, facts)


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


def _settings(step: Step) -> dict[str, Any]:
    """A step's parameters as the recipe's section has them: identity and result come from the same values."""
    return {key: value for key, value in step.parameters.items() if key != "label"}


def _quantized(bench: Workbench, original: Candidate, steps: Sequence[Step]) -> Candidate:
    settings = Quantize.model_validate(_settings(steps[-1]))
    parent = planned(original, steps[:-1])
    result = planned(original, steps)
    train = bench.splits["train"]
    if bench.stored_converted(parent.id, FLOAT_GRAPH) is None:
        bench.keep_converted(convert_candidate(bench, _stored(bench, parent), FLOAT_GRAPH))
    graph = bench.target_folder(parent.id, FLOAT_GRAPH) / "model.onnx"
    with new_folder(bench.folder(result.id)) as draft:
        facts = quantize(graph, train.inputs, train.inputs, settings, draft / "model.onnx")
        files = folder_digests(draft)
    return Candidate(result.lineage, result.inputs, "onnx", files, facts)


def _stored(bench: Workbench, planned_candidate: Candidate) -> Candidate:
    found = bench.stored(planned_candidate.id)
    if found is None:
        raise UnsupportedError(
            f"the candidate it is made from ({planned_candidate.label}) could not be made", where="compress.quantize"
        )
    return found
