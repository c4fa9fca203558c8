"""A few numbers for each image, sequence or wide vector, so that drift can be tested on columns one can read.

Monitoring computes them from inputs that were journalled, serving journals them in place of the inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Array = np.ndarray
NAMES = ("mean", "std", "sharpness", "low_share", "high_share")
MAX_TABULAR = 64


def is_wide(shape: Sequence[int | str]) -> bool:
    """Whether an input is watched by descriptors: more than a table of 64 features.

    Args:
        shape: (batch, ...); an axis may be free.
    """
    narrow = len(shape) == 1 or (len(shape) == 2 and isinstance(shape[1], int) and shape[1] <= MAX_TABULAR)
    return not narrow


def descriptors(values: Array) -> dict[str, Array]:
    """Five descriptors of every row.

    mean (brightness), std (contrast), sharpness (mean absolute Laplacian over the last two axes of an image, mean
    absolute step along a vector), low_share and high_share (share of the values that equal the row's own minimum and
    maximum: background, and clipping or saturation).

    Args:
        values: (n, c, h, w), (n, h, w) or (n, d); any numeric dtype. A row with NaN or infinity gives NaN or infinity.

    Returns:
        descriptor → float64 (n,).
    """
    rows = np.asarray(values, np.float64)
    flat = rows.reshape(len(rows), -1)
    with np.errstate(invalid="ignore", over="ignore"):
        return {
            "mean": flat.mean(axis=1),
            "std": flat.std(axis=1),
            "sharpness": _sharpness(rows),
            "low_share": _share_at(flat, flat.min(axis=1)),
            "high_share": _share_at(flat, flat.max(axis=1)),
        }


def _sharpness(rows: Array) -> Array:
    if rows.ndim >= 3 and min(rows.shape[-2:]) >= 3:
        centre = rows[..., 1:-1, 1:-1]
        across = rows[..., 1:-1, :-2] + rows[..., 1:-1, 2:]
        down = rows[..., :-2, 1:-1] + rows[..., 2:, 1:-1]
        return np.abs(across + down - 4 * centre).reshape(len(rows), -1).mean(axis=1)
    # Too narrow for a Laplacian, or no second axis: the mean absolute step along the longer of the last axes.
    axis = -1 if rows.ndim == 2 or rows.shape[-1] >= rows.shape[-2] else -2
    if rows.shape[axis] < 2:
        return np.where(np.isfinite(rows.reshape(len(rows), -1)).all(axis=1), 0.0, np.nan)
    return np.abs(np.diff(rows, axis=axis)).reshape(len(rows), -1).mean(axis=1)


def _share_at(flat: Array, extreme: Array) -> Array:
    share = (flat == extreme[:, None]).mean(axis=1)
    return np.where(np.isfinite(flat).all(axis=1), share, np.nan)
