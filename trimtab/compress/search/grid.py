"""The plan without a search: every method the recipe names at every setting it names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

from trimtab.candidate import Step, digest_of
from trimtab.compress.search.for_int8 import carrying, float_start, without_coarsening
from trimtab.compress.student import student_steps
from trimtab.convert import carries
from trimtab.recipe.schema import Compress, Quantize

QUANTIZE = frozenset({"quantize", "quantize_openvino", "quantize_executorch", "quantize_litert"})
OTHERS = {
    "quantize_openvino": "int8-nncf",
    "quantize_executorch": "int8-xnnpack",
    "quantize_litert": "int8-litert",
    "cluster": "clustered",
    "half": "fp16",
    "pack_sparse": "sparse",
}
ORIGINAL: tuple[Step, ...] = ()
ROUND_TO = 8  # where nothing is measured
COARSE = frozenset({"int8", "int8-nncf"})  # precisions whose weights lie evenly within a channel
ON_THE_GRAPH = frozenset({"quantize", *OTHERS})  # methods that write a graph of their own, and come last
# Methods of a target whose format has a quantizer of its own, which takes what compress.quantize says of static INT8.
OWN_QUANTIZERS = {"executorch-cpu": "quantize_executorch", "litert-cpu": "quantize_litert"}


def plan(compress: Compress, seed: int, targets: Sequence[str]) -> list[tuple[Step, ...]]:
    """The steps after "train" of every candidate; each step's parameters hold all that decides its result.

    As it is, shortened by each number of blocks, pruned by each criterion at each ratio, sparsified, and all of them
    together (all but the first distilled when that is on), and each student; each of these in FP32 and with its graph
    rewritten in each way that is on. The first is the original itself.
    """
    trained = distilled(compress, seed)
    shapes = [
        (*shorter, *pruned, *sparse)
        for shorter in _shortened(compress)
        for pruned in _pruned(compress, seed)
        for sparse in _sparsified(compress)
    ]
    students = [(step,) for step in student_steps(compress.student, seed)]
    starts = [(*shape, *trained) if shape else ORIGINAL for shape in [*shapes, *students]]
    return [steps for start in starts for steps in with_last_steps(compress, start, targets, seed)]


def unsearched(compress: Compress, seed: int) -> list[tuple[Step, ...]]:
    """What is made beside the shapes of a search, before last steps: the original, it sparsified, and the students."""
    trained = distilled(compress, seed)
    others = [*_sparsified(compress)[1:], *((step,) for step in student_steps(compress.student, seed))]
    return [ORIGINAL, *((*start, *trained) for start in others)]


def finished(
    compress: Compress,
    seed: int,
    targets: Sequence[str],
    shapes: Sequence[tuple[Step, ...]],
    without: Collection[tuple[str, str]] = (),
) -> list[tuple[Step, ...]]:
    """The plans after a search: the original and what stands beside the search, then its shapes; each start once, with
    every last step but those of which no target is left.

    Args:
        without: (precision, target) that are not worth converting to, see `lanes.not_worth_it`.
    """
    starts = [*unsearched(compress, seed), *shapes]
    once = [start for index, start in enumerate(starts) if start not in starts[:index]]
    return [steps for start in once for steps in with_last_steps(compress, start, targets, seed, without)]


def with_last_steps(
    compress: Compress,
    start: tuple[Step, ...],
    targets: Sequence[str],
    seed: int,
    without: Collection[tuple[str, str]] = (),
) -> list[tuple[Step, ...]]:
    """The candidate of these steps, and what becomes of its graph: rewritten once at most, clipped before INT8.

    With quantization-aware training on, INT8 is made without it and with it: what it gains can be seen. With `coarsen`
    on, INT8 that was not trained for is made once more with coarser weights.

    Args:
        without: (precision, target) that are not worth converting to, see `lanes.not_worth_it`.
    """
    sparse = any(step.method == "sparsify" for step in start)
    ends = [
        (step,)
        for step in on_the_graph(compress, targets)
        if (step.method != "pack_sparse" or sparse) and _wanted(step, targets, without)
    ]
    clip = (Step("clip", {**compress.clip.model_dump(mode="json"), "label": "clip"}),) if compress.clip else ()
    plans = [start, *((*start, *(clip if end[0].method in QUANTIZE else ()), *end) for end in ends)]
    trained = trained_for_int8(compress, seed)
    plans += [(*start, *clip, *trained, *end) for end in ends if trained and end[0].method == "quantize"]
    return plans + [(*start, *clip, *end) for (last,) in ends for end in _coarse(compress, targets, last, without)]


def _coarse(
    compress: Compress, targets: Sequence[str], last: Step, without: Collection[tuple[str, str]]
) -> list[tuple[Step, ...]]:
    """Weights made coarser and then INT8, where that is shipped compressed, with no layer in float; [] elsewhere."""
    if compress.coarsen is None or precision([last]) not in COARSE:
        return []
    asked = compress.coarsen.model_dump(mode="json")
    step, whole = Step("coarsen", {**asked, "label": f"coarsen-{compress.coarsen.bits}"}), dict(last.parameters)
    end = precision([last])
    if all((end, target) in without for target in carrying([step], end, targets)):
        return []
    if "max_drop" in whole:
        whole["max_drop"] = None
    return [(step, Step(last.method, whole, last.seed))]


def _wanted(step: Step, targets: Sequence[str], without: Collection[tuple[str, str]]) -> bool:
    """Whether there is a target left for a last step; one that never had any is not this function's to judge."""
    if not without:
        return True
    end = precision([step])
    carrying = [target for target in targets if carries(target, end)]
    return not carrying or any((end, target) not in without for target in carrying)


def replan(finalists: Sequence[Sequence[Step]]) -> list[tuple[Step, ...]]:
    """The plan of a retrain: the original, and what reached the gate last time with what each was made from.

    Which shapes are fast does not depend on their weights, so the search need not be repeated for new data.
    """
    plans: dict[tuple[str, ...], tuple[Step, ...]] = {(): ORIGINAL}
    for steps in finalists:
        whole = tuple(steps)
        quantized = bool(whole) and whole[-1].method in ON_THE_GRAPH
        # With coarser weights the finer ones too: what they lose on new data is not known.
        for part in (float_start(whole[:-1]), without_coarsening(whole), whole) if quantized else (whole,):
            plans.setdefault(tuple(digest_of(asdict(step)) for step in part), part)
    return list(plans.values())


def _shortened(compress: Compress) -> list[tuple[Step, ...]]:
    """Nothing, and each number of blocks fewer."""
    numbers = dict.fromkeys(compress.shorten.blocks) if compress.shorten else {}
    return [(), *((Step("shorten", {"blocks": count, "label": f"shorten-{count}"}),) for count in numbers)]


def _pruned(compress: Compress, seed: int) -> list[tuple[Step, ...]]:
    """Nothing, and each criterion at each ratio."""
    settings = compress.prune
    if settings is None:
        return [()]
    steps = [
        Step(
            "prune",
            {
                "norm": norm,
                "ratio": ratio,
                **prune_settings(compress),
                "label": f"prune-{norm}-{ratio:g}",
            },
            seed if norm in ("taylor", "random") else None,
        )
        for norm in dict.fromkeys(settings.norms)
        for ratio in dict.fromkeys(settings.ratios)
    ]
    return [(), *((step,) for step in steps)]


def prune_settings(compress: Compress) -> dict[str, Any]:
    """What a step of pruning takes over from the recipe; what is at its default is left out, as it always was."""
    settings = compress.prune
    if settings is None:
        return {}
    whole = {"round_to": settings.round_to or ROUND_TO, "scope": settings.scope, "rounds": settings.rounds}
    return {key: value for key, value in whole.items() if (key, value) not in (("scope", "layer"), ("rounds", 1))}


def _sparsified(compress: Compress) -> list[tuple[Step, ...]]:
    """Nothing, and each sparsity."""
    settings = compress.sparsify
    if settings is None:
        return [()]
    shares = dict.fromkeys(settings.sparsities)
    return [
        (),
        *(
            (Step("sparsify", {"sparsity": share, "scope": settings.scope, "label": f"sparsify-{share:g}"}),)
            for share in shares
        ),
    ]


def distilled(compress: Compress, seed: int, epochs: int | None = None, label: str = "distil") -> tuple[Step, ...]:
    """The step of distillation, if the recipe has it on; for so many epochs instead of the recipe's."""
    if compress.distil is None:
        return ()
    settings = compress.distil.model_dump(mode="json") | ({"epochs": epochs} if epochs else {})
    return (Step("distil", {**settings, "label": label}, seed),)


def trained_for_int8(compress: Compress, seed: int) -> tuple[Step, ...]:
    """The step of quantization-aware training, if the recipe has it on; with a teacher where distillation is on."""
    if compress.qat is None or compress.quantize is None:
        return ()
    teacher = compress.distil.model_dump(include={"temperature", "alpha"}) if compress.distil else {}
    # Ranges are of the file that follows: how it is calibrated decides where the training begins.
    file = compress.quantize.model_dump(mode="json", exclude={"max_drop"})
    return (Step("qat", {**compress.qat.model_dump(mode="json"), **teacher, "quantize": file, "label": "qat"}, seed),)


def on_the_graph(compress: Compress, targets: Sequence[str]) -> list[Step]:
    """The last step, of which a candidate has at most one."""
    steps = []
    if compress.quantize is not None:
        label = "int8" if compress.quantize.mode == "static" else "int8-dynamic"
        steps.append(Step("quantize", {**compress.quantize.model_dump(mode="json"), "label": label}))
        steps += _by_their_own(compress.quantize, targets)
    if compress.quantize_openvino is not None and "openvino-cpu" in targets:
        settings = compress.quantize_openvino.model_dump(mode="json")
        steps.append(Step("quantize_openvino", {**settings, "label": "int8-nncf"}))
    if compress.cluster is not None:
        bits = compress.cluster.bits
        steps.append(Step("cluster", {"bits": bits, "label": f"cluster-{bits}"}))
    if compress.sparsify is not None:
        steps.append(Step("pack_sparse", {"label": "packed"}))
    if compress.half is not None:
        steps.append(Step("half", {"label": "fp16"}))
    return steps


def _by_their_own(settings: Quantize, targets: Sequence[str]) -> list[Step]:
    """Static INT8 by the quantizers of those formats that have one; layers kept in float are ONNX Runtime's alone."""
    if settings.mode != "static":
        return []
    asked = settings.model_dump(mode="json", exclude={"mode", "max_drop"})
    methods = [method for target, method in OWN_QUANTIZERS.items() if target in targets]
    return [Step(method, {**asked, "label": OTHERS[method]}) for method in methods]


def precision(steps: Sequence[Step]) -> str:
    """Precision of a candidate before it is made, as `convert.carries` takes it."""
    last = steps[-1] if steps else Step("train")
    if last.method == "quantize":
        return "int8" if last.parameters.get("mode", "static") == "static" else "int8-dynamic"
    return OTHERS.get(last.method, "fp32")
