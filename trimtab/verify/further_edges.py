"""Further outputs at the edges: each is compared by itself, and one that is wrong is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trimtab.verify.further import TINY
from trimtab.verify.predictor import Array
from trimtab.verify.scale import Scale

NOT_COMPARED = "not compared: the original's is not finite"


@dataclass(frozen=True)
class Beside:
    """What was seen of the further outputs at one edge.

    Attributes:
        wrong: place of the first one that is wrong, in the order of the specification; None where all are right.
        detail: a word on each.
    """

    wrong: int | None
    detail: tuple[str, ...]


def beside(
    expected: Mapping[str, Array], given: Mapping[str, Array], limit: float | None, scale: Scale, invented: bool = False
) -> Beside:
    """Compare all outputs but the first.

    Differences are shares of the output's largest value, over the rows or at this edge (as in `verify.further`).

    Args:
        expected: output → array (n, ...) of the original, the deciding one first. given: of the candidate.
        limit: largest difference that is right; None where a difference is told and does not decide, as in INT8.
        invented: rows that nobody sent. Where the original answers NaN to such a one (zeros divided by their length),
            there is nothing to compare with: that is said and does not make the edge wrong.
    """
    wrong, detail = None, []
    for place, name in list(enumerate(expected))[1:]:
        if invented and not np.isfinite(expected[name]).all():
            right, words = _shaped(expected[name], given.get(name)) or (True, f"is {NOT_COMPARED}")
        else:
            right, words = _compared(expected[name], given.get(name), limit, scale.beside.get(name, 0.0))
        detail.append(f"output {name!r} {words}")
        wrong = place if wrong is None and not right else wrong
    return Beside(wrong, tuple(detail))


def _compared(expected: Array, given: Array | None, limit: float | None, largest: float) -> tuple[bool, str]:
    if (wrong := _shaped(expected, given)) is not None:
        return wrong
    assert given is not None
    if not np.isfinite(given).all():
        return False, "is not finite"
    wide = expected.astype(np.float64)
    distance = float(np.abs(wide - given).max(initial=0)) / max(largest, float(np.abs(wide).max(initial=0)), TINY)
    return limit is None or distance <= limit, f"differs by {distance:.1e} of its largest value"


def _shaped(expected: Array, given: Array | None) -> tuple[bool, str] | None:
    """What is wrong with an output before its figures are looked at."""
    if given is None:
        return False, "is missing"
    if given.shape != expected.shape:
        return False, f"has shape {given.shape}, not {expected.shape}"
    return None
