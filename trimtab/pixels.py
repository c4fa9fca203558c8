"""From image files to a model's raw input: the rule, asked at the recipe's door and by the scoring service.

Worked example: mode L and scale 0.0625 make of an 8x8 grey PNG whose first pixel is 160 an input (1, 1, 8, 8) that
begins with 10.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

CHANNELS = {"RGB": 3, "L": 1}
Array = np.ndarray


def misfit(mode: str, scale: float, inputs: Sequence[Mapping[str, Any]]) -> str | None:
    """Why images cannot be what a model takes; None when they can.

    Args:
        mode: "RGB" or "L". scale: what a pixel is multiplied with.
        inputs: of the specification: name, dtype, shape ["batch", ...].
    """
    if len(inputs) != 1:
        return f"images are one input, the model takes {len(inputs)}"
    shape, dtype = list(inputs[0]["shape"]), str(inputs[0]["dtype"])
    if len(shape) != 4 or shape[1] != CHANNELS[mode]:
        return f"images in mode {mode} are (n, {CHANNELS[mode]}, h, w), the model takes {_text(shape)}"
    if dtype == "bool":
        return "the model takes bools"
    if dtype == "int64" and not float(scale).is_integer():
        return f"the model takes whole numbers, and a pixel times {scale:g} is none"
    return None


def levels(scale: float, dtype: str) -> Array:
    """What each of the 256 pixel values becomes: pixel * scale, rounded once to the dtype.

    Computed in float64, so that 1/255 gives exactly the numbers that a division by 255 in float32 gives.
    """
    return (np.arange(256) * float(scale)).astype(dtype)


def _text(shape: Sequence[Any]) -> str:
    return f"({', '.join('n' if size == 'batch' else str(size) for size in shape)})"
