"""Steps that prepare weights for INT8: what is made of a candidate that has them, on which targets, and beside what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trimtab.candidate import Candidate, Step
from trimtab.targets import TARGETS, carries

PREPARING = ("clip", "coarsen", "qat")  # what they leave is for INT8 alone, and is no candidate in FP32


def coarse(steps: Sequence[Step]) -> bool:
    """Whether weights were made coarser on the way."""
    return any(step.method == "coarsen" for step in steps)


def without_coarsening(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps of the candidate that is the same network with finer weights."""
    return tuple(step for step in steps if step.method != "coarsen")


def float_start(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps of the FP32 candidate that INT8 of these steps is compared with.

    Args:
        steps: without the last one, which quantizes.
    """
    end = len(steps)
    while end and steps[end - 1].method in PREPARING:
        end -= 1
    return tuple(steps[:end])


def carrying(steps: Sequence[Step], precision: str, targets: Sequence[str]) -> list[str]:
    """The targets such a candidate is converted to; coarser weights only where they make what is shipped smaller."""
    return [
        target
        for target in targets
        if carries(target, precision) and (TARGETS[target].ships_compressed or not coarse(steps))
    ]


def finer_twins(candidates: Mapping[str, Candidate]) -> dict[str, str]:
    """Id of each candidate with coarser weights → id of the one that is the same network with finer ones."""
    twins = {
        name: Candidate(without_coarsening(one.lineage), one.inputs).id
        for name, one in candidates.items()
        if coarse(one.lineage)
    }
    return {name: twin for name, twin in twins.items() if twin in candidates}
