"""One candidate from the original by the steps of its plan: first those on the torch module, then one on the graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial

from torch import nn

from trimtab.candidate import Candidate, Step
from trimtab.compress.batchnorm import reestimate
from trimtab.compress.convert_candidate import GRAPH_FILES, convert_candidate, deployed_candidate
from trimtab.compress.graph_steps import FLOAT_GRAPH, GRAPH_STEPS, Source, form_of
from trimtab.compress.learned_ranges import Ranges, learned_of, write_learned
from trimtab.compress.module_steps import MODULE_STEPS, NORM_ROWS, Facts, distil_step, qat_step, rows_of
from trimtab.compress.opening import open_torch
from trimtab.compress.replay import History
from trimtab.compress.sparsify import zeros_kept
from trimtab.compress.student import METHOD as STUDENT
from trimtab.compress.student import build_student, check_order
from trimtab.compress.weights import history_of, save_candidate
from trimtab.errors import UnsupportedError
from trimtab.store import folder_digests, new_folder
from trimtab.workbench import Workbench

REMADE = ("parameters",)  # facts that are counted anew after every step
Report = Callable[[int, int, dict[str, float]], None]


def planned(original: Candidate, steps: Sequence[Step]) -> Candidate:
    """The candidate's identity before it is made."""
    return Candidate((*original.lineage, *steps), original.inputs)


def make(bench: Workbench, original: Candidate, steps: Sequence[Step], progress: Report | None = None) -> Candidate:
    """Apply the steps and keep the result in the store.

    A step on the graph comes last: it works on the FP32 build of the candidate before it for the runtime whose form it
    rewrites; both are made first if needed. Steps on the module go on from the furthest candidate on the way that is in
    the store.

    Raises:
        UnsupportedError: a step cannot be applied to this model, or here in the plan, with the reason.
        ConversionError: the FP32 build, or what the step wrote, cannot be made or used.
        CalibrationError: the calibration rows are not fit for use.
    """
    check_order(steps)
    _check_qat(steps)
    if steps and steps[-1].method in GRAPH_STEPS:
        return _rewritten(bench, original, steps, progress)
    return _shaped(bench, original, steps, progress)


def _check_qat(steps: Sequence[Step]) -> None:
    """Refuse a plan in which anything but `quantize` follows a training for INT8: it would be lost."""
    methods = [step.method for step in steps]
    after = methods[methods.index("qat") + 1 :] if "qat" in methods else []
    if after not in ([], ["quantize"]):
        raise UnsupportedError(
            f"quantization-aware training is for the file that quantize writes right after it, and this plan is "
            f"{', '.join(methods)}",
            where="compress.qat",
            fix="put all other steps before it",
        )


def _shaped(bench: Workbench, original: Candidate, steps: Sequence[Step], progress: Report | None) -> Candidate:
    model, history, facts, done = _begun(bench, original, steps)
    ranges: Ranges = {}
    for index, step in enumerate(steps[done:], done):
        sparse = any(before.method == "sparsify" for before in steps[:index])
        if step.method == "distil":
            with zeros_kept(model) if sparse else nullcontext():
                facts |= distil_step(bench, original, model, step, progress)
        elif step.method == "qat":
            with zeros_kept(model) if sparse else nullcontext():
                found, ranges = qat_step(bench, original, model, step, progress)
            facts |= found
        elif step.method in MODULE_STEPS:
            cuts, found = MODULE_STEPS[step.method](bench, model, step)
            history += cuts
            facts |= found
            reestimate(model, rows_of(bench, NORM_ROWS), bench.forward)
        else:
            raise UnsupportedError(f"unknown step {step.method!r}", where="compress")
    planned_candidate = planned(original, steps)
    with new_folder(bench.folder(planned_candidate.id)) as draft:
        save_candidate(model, history, draft)
        if ranges:
            write_learned(ranges, draft)
        files = folder_digests(draft)
    facts["parameters"] = sum(p.numel() for p in model.parameters())
    return Candidate(planned_candidate.lineage, planned_candidate.inputs, "torch", files, facts)


def _begun(bench: Workbench, original: Candidate, steps: Sequence[Step]) -> tuple[nn.Module, History, Facts, int]:
    """The module to go on from, what was cut from it, what is known of it, and how many steps it has behind it."""
    for done in range(len(steps) - 1, 0, -1):
        found = bench.stored(planned(original, steps[:done]).id)
        if found is not None:
            facts = {key: value for key, value in found.facts.items() if key not in REMADE}
            return open_torch(bench, found), history_of(bench.folder(found.id)), facts, done
    if steps and steps[0].method == STUDENT:
        return build_student(bench, steps[0], original.model_kwargs), [], {}, 1
    return open_torch(bench, original), [], {}, 0


def _rewritten(bench: Workbench, original: Candidate, steps: Sequence[Step], progress: Report | None) -> Candidate:
    before = planned(original, steps[:-1])
    parent = bench.stored(before.id) or bench.keep(_shaped(bench, original, steps[:-1], progress))
    result = planned(original, steps)
    method = steps[-1].method
    form = form_of(method)
    target = FLOAT_GRAPH[form]
    if bench.stored_converted(parent.id, target) is None:
        bench.keep_converted(convert_candidate(bench, parent, target))
    with new_folder(bench.folder(result.id)) as draft:
        build, ranges = bench.target_folder(parent.id, target), learned_of(bench.folder(parent.id))
        source = Source(build, partial(deployed_candidate, bench, parent), ranges)
        facts = GRAPH_STEPS[method](bench, source, steps[-1], draft / GRAPH_FILES[form])
        files = folder_digests(draft)
    return Candidate(result.lineage, result.inputs, form, files, facts)
