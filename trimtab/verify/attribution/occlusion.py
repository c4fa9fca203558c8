"""Occlusion: what a part of the input is worth is what the answer loses when it is taken away (Zeiler and Fergus 2014).

It needs answers only, so it works alike on every runtime. Measured is not the probability but its log-odds against all
other classes: a model that is sure answers 1.0000 with a part and without it, while the odds still tell 10,000 from
1,000,000 to one. Of a regression it is the answered number itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from trimtab.verify.attribution.regions import Layout
from trimtab.verify.predictor import answered

Array = np.ndarray
LEAST = 1e-30  # a probability of 0 in float32 is one below 1e-45
ROWS_A_CALL = 256


def log_odds(probabilities: Array, decided: Array) -> Array:
    """Log of the probability of a class over that of all others together, float64 (n,).

    Args:
        probabilities: float (n, classes). decided: int (n,), the class of each row.
    """
    chances = np.asarray(probabilities, np.float64)
    own = chances[np.arange(len(chances)), decided]
    others = np.where(np.arange(chances.shape[1]) == np.asarray(decided)[:, None], 0.0, chances).sum(axis=1)
    found: Array = np.log(np.maximum(own, LEAST)) - np.log(np.maximum(others, LEAST))
    return found


def number(answers: Array, chosen: Array) -> Array:
    """One of the numbers that a regression answers, float64 (n,).

    Args:
        answers: float (n, k). chosen: int (n,), which of the k of each row.
    """
    found: Array = np.asarray(answers, np.float64)[np.arange(len(answers)), chosen]
    return found


def occlusion(
    predictor: Any,
    inputs: Mapping[str, Array],
    decided: Array,
    layout: Layout,
    replacement: Mapping[str, Array],
    rows_a_call: int = ROWS_A_CALL,
    worth: Callable[[Array, Array], Array] = log_odds,
) -> Array:
    """What each region speaks for a decision, float64 (n, regions): positive for it, negative against it.

    Args:
        predictor: answers {"probabilities": (batch, classes)} or {"prediction": (batch, k)}.
        inputs: name → array (n, ...). decided: int (n,), the class whose odds are looked at, or which number.
        replacement: name → one row, what stands in a region that is taken away.
        rows_a_call: 1 where a row's answer depends on the rows beside it.
        worth: answers and what was decided → the figure that a region adds to; of a regression `number`.
    """
    rows = len(decided)
    found = np.empty((rows, len(layout.regions)))
    for row in range(rows):
        copies = {
            name: np.repeat(values[row : row + 1], len(layout.regions) + 1, axis=0) for name, values in inputs.items()
        }
        for index, region in enumerate(layout.regions):
            one = copies[region.input][index : index + 1]
            one[(slice(None), *region.place)] = replacement[region.input][region.place]
        answers = _answered(predictor, copies, rows_a_call)
        figures = worth(answers, np.full(len(answers), decided[row]))
        found[row] = figures[-1] - figures[:-1]  # the last copy is whole
    return found


def _answered(predictor: Any, copies: Mapping[str, Array], rows_a_call: int) -> Array:
    total = len(next(iter(copies.values())))
    parts = [
        answered(predictor, {name: values[start : start + rows_a_call] for name, values in copies.items()})
        for start in range(0, total, rows_a_call)
    ]
    return np.concatenate(parts)
