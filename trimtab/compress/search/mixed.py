"""Mixed precision where it is called for: INT8 that loses more than the budget, of a shape that in FP32 does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trimtab.candidate import Candidate, Step

LABEL = "int8-mixed"


def mixed_plans(
    candidates: Sequence[Candidate], accuracy: Mapping[str, float], reference: float, max_drop: float
) -> list[tuple[Step, ...]]:
    """A plan for each static INT8 of ONNX Runtime's that is worth another try with layers in float.

    What layers in float can win back is what quantizing has lost, so a shape that is beyond the budget in FP32 is left
    alone; what is left of the budget after its own drop is what the quantizing may lose. So are coarser weights, which
    are for a small file: layers in float would make it larger again.

    Args:
        candidates: all that were made, those before the quantizing among them.
        accuracy: id → share of right answers on validation; who is not in it is not judged.
        reference: what drops are counted from. max_drop: of the budget.

    Returns:
        Steps after the original's, with `max_drop` in the last one.
    """
    plans = []
    for candidate in candidates:
        last = candidate.lineage[-1]
        coarse = any(step.method == "coarsen" for step in candidate.lineage)
        if not may_be_mixed(last) or coarse or candidate.id not in accuracy:
            continue
        parent = Candidate(_before_quantizing(candidate.lineage), candidate.inputs).id
        left = max_drop - (reference - accuracy[parent]) if parent in accuracy else -1.0
        if reference - accuracy[candidate.id] > max_drop and left > 0:
            settings = {**last.parameters, "max_drop": round(min(left, 0.99), 6), "label": LABEL}
            plans.append((*candidate.lineage[1:-1], Step(last.method, settings, last.seed)))
    return plans


def may_be_mixed(step: Step) -> bool:
    """Whether a step is static INT8 by ONNX Runtime that keeps no layer in float yet."""
    asked = step.parameters
    return step.method == "quantize" and asked.get("mode", "static") == "static" and asked.get("max_drop") is None


def _before_quantizing(lineage: Sequence[Step]) -> tuple[Step, ...]:
    """The FP32 candidate that is measured: clipping is for INT8 alone."""
    steps = tuple(lineage[:-1])
    return steps[:-1] if steps[-1].method == "clip" else steps
