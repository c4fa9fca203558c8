"""Mixed precision where it is called for: INT8 that loses more than the budget, of a shape that in FP32 does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trimtab.candidate import Candidate, Step
from trimtab.compress.search.for_int8 import coarse, float_start

LABEL = "int8-mixed"


def mixed_plans(
    candidates: Sequence[Candidate], accuracy: Mapping[str, float], reference: float, max_drop: float
) -> list[tuple[Step, ...]]:
    """A plan for each static INT8 of ONNX Runtime's that is worth another try with layers in float.

    What layers in float can win back is what quantizing has lost, so a shape that is beyond the budget in FP32 is left
    alone; what is left of the budget after its own drop is what the quantizing may lose.

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
        if not may_be_mixed(candidate.lineage) or candidate.id not in accuracy:
            continue
        parent = Candidate(float_start(candidate.lineage[:-1]), candidate.inputs).id
        left = max_drop - (reference - accuracy[parent]) if parent in accuracy else -1.0
        if reference - accuracy[candidate.id] > max_drop and left > 0:
            settings = {**last.parameters, "max_drop": round(min(left, 0.99), 6), "label": LABEL}
            plans.append((*candidate.lineage[1:-1], Step(last.method, settings, last.seed)))
    return plans


def may_be_mixed(lineage: Sequence[Step]) -> bool:
    """Whether it ends in static INT8 by ONNX Runtime that keeps no layer in float yet.

    Not of coarser weights, which are for a small file: layers in float would make it larger again.
    """
    step, asked = lineage[-1], lineage[-1].parameters
    static = step.method == "quantize" and asked.get("mode", "static") == "static"
    return static and asked.get("max_drop") is None and not coarse(lineage)
