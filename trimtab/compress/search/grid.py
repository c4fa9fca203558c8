"""The plan without a search: every method the recipe names at every setting it names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from trimtab.candidate import Step, digest_of
from trimtab.recipe.schema import Compress

ORIGINAL: tuple[Step, ...] = ()
ON_THE_GRAPH = frozenset({"quantize", "cluster", "half"})  # methods that rewrite the ONNX graph, and come last


def plan(compress: Compress, seed: int) -> list[tuple[Step, ...]]:
    """The steps after "train" of every candidate; each step's parameters hold all that decides its result.

    As it is, shortened by each number of blocks, pruned by each criterion at each ratio, and both (all but the first
    distilled when that is on); each of these in FP32 and with its graph quantized, clustered or halved, whichever are
    on. With the defaults 14: pruned or not, FP32 and INT8. The first is the original itself.
    """
    trained = distilled(compress, seed)
    shapes = [(*shorter, *pruned) for shorter in _shortened(compress) for pruned in _pruned(compress, seed)]
    starts = [(*shape, *trained) if shape else ORIGINAL for shape in shapes]
    return [steps for start in starts for steps in (start, *((*start, last) for last in on_the_graph(compress)))]


def replan(finalists: Sequence[Sequence[Step]]) -> list[tuple[Step, ...]]:
    """The plan of a retrain: the original, and what reached the gate last time with what each was made from.

    Which shapes are fast does not depend on their weights, so the search need not be repeated for new data.
    """
    plans: dict[tuple[str, ...], tuple[Step, ...]] = {(): ORIGINAL}
    for steps in finalists:
        for end in range(1, len(steps) + 1):
            part = tuple(steps[:end])
            if part[-1].method in ON_THE_GRAPH or end == len(steps) or steps[end].method in ON_THE_GRAPH:
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
            {"norm": norm, "ratio": ratio, "round_to": settings.round_to, "label": f"prune-{norm}-{ratio:g}"},
            seed if norm in ("taylor", "random") else None,
        )
        for norm in dict.fromkeys(settings.norms)
        for ratio in dict.fromkeys(settings.ratios)
    ]
    return [(), *((step,) for step in steps)]


def distilled(compress: Compress, seed: int, epochs: int | None = None, label: str = "distil") -> tuple[Step, ...]:
    """The step of distillation, if the recipe has it on; for so many epochs instead of the recipe's."""
    if compress.distil is None:
        return ()
    settings = compress.distil.model_dump(mode="json") | ({"epochs": epochs} if epochs else {})
    return (Step("distil", {**settings, "label": label}, seed),)


def on_the_graph(compress: Compress) -> list[Step]:
    """The last step, of which a candidate has at most one."""
    steps = []
    if compress.quantize is not None:
        label = "int8" if compress.quantize.mode == "static" else "int8-dynamic"
        steps.append(Step("quantize", {**compress.quantize.model_dump(mode="json"), "label": label}))
    if compress.cluster is not None:
        bits = compress.cluster.bits
        steps.append(Step("cluster", {"bits": bits, "label": f"cluster-{bits}"}))
    if compress.half is not None:
        steps.append(Step("half", {"label": "fp16"}))
    return steps


def precision(steps: Sequence[Step]) -> str:
    """Precision of a candidate before it is made, as `convert.carries` takes it."""
    last = steps[-1] if steps else Step("train")
    if last.method == "quantize":
        return "int8" if last.parameters.get("mode", "static") == "static" else "int8-dynamic"
    return {"cluster": "clustered", "half": "fp16"}.get(last.method, "fp32")
