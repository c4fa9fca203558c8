"""Further outputs at the edges: each is compared by itself, and one that is wrong is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trimtab.verify.further import TINY
from trimtab.verify.predictor import Array
from trimtab.verify.scale import Scale


@dataclass(frozen=True)
class Beside:
    """What was seen of the further outputs at one edge.

    Attributes:
        wrong: place of the first one that is wrong, in the order of the specification; None where all are right.
        detail: a word on each.
    """

    wrong: int | None
    detail: tuple[str, ...]


def beside(expected: Mapping[str, Array], given: Mapping[str, Array], limit: float | None, scale: Scale) -> Beside:
    """Compare all outputs but the first.

    Differences are shares of the output's largest value, over the rows or at this edge (as in `verify.further`).
    Where the original itself gives NaN or infinity (a vector of zeros divided by its length), there is nothing to
    compare with: that is said and does not make the edge wrong.

    Args:
        expected: output → array (n, ...) of the original, the deciding one first. given: of the candidate.
        limit: largest difference that is right; None where a difference is told and does not decide, as in INT8.
    """
    wrong, detail = None, []
    for place, name in list(enumerate(expected))[1:]:
        right, words = _compared(expected[name], given.get(name), limit, scale.beside.get(name, 0.0))
        detail.append(f"output {name!r} {words}")
        wrong = place if wrong is None and not right else wrong
    return Beside(wrong, tuple(detail))


def _compared(expected: Array, given: Array | None, limit: float | None, largest: float) -> tuple[bool, str]:
    if given is None:
        return False, "is missing"
    if given.shape != expected.shape:
        return False, f"has shape {given.shape}, not {expected.shape}"
    wide = expected.astype(np.float64)
    if not np.isfinite(wide).all():
        return True, "is not compared: the original's is not finite"
    if not np.isfinite(given).all():
        return False, "is not finite"
    distance = float(np.abs(wide - given).max(initial=0)) / max(largest, float(np.abs(wide).max(initial=0)), TINY)
    return limit is None or distance <= limit, f"differs by {distance:.1e} of its largest value"
