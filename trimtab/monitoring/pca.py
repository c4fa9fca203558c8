"""How far a row is from what the reference's rows have in common: the error of rebuilding it from a few components.

Principal components of the reference (Jolliffe 2002), numpy only. A row far off the plane they span is one the release
has not seen the like of, even if its brightness, contrast and sharpness are usual. Large rows are averaged down to
1,024 numbers first, images over squares, so that what is stored with a release stays small.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray
MOST_NUMBERS = 1024
MOST_COMPONENTS = 16
EXPLAINED = 0.9
LEAST_ROWS = 50
MOST_ROWS = 2000
AT_ONCE = 1024  # rows


@dataclass(frozen=True, eq=False)
class Pca:
    """Mean and components of reduced rows.

    Attributes:
        mean: float32 (d,). components: float32 (k, d), orthonormal, 1 ≤ k ≤ 16.
    """

    mean: Array
    components: Array

    def error(self, rows: Array) -> Array:
        """Root mean square difference between each reduced row and its projection, float64 (n,).

        Args:
            rows: (n, ...) of the shape it was fitted on. A row with NaN or infinity gives NaN.
        """
        found = [self._error(rows[start : start + AT_ONCE]) for start in range(0, len(rows), AT_ONCE)]
        return np.concatenate(found) if found else np.empty(0)

    def _error(self, rows: Array) -> Array:
        with np.errstate(invalid="ignore", over="ignore"):
            centred = reduced(rows) - self.mean
            basis = self.components.astype(np.float64)
            # Not by BLAS: a product's last bits would depend on how many rows are multiplied at once.
            rest = centred - np.einsum("nk,kd->nd", np.einsum("nd,kd->nk", centred, basis), basis)
            error = np.sqrt((rest**2).mean(axis=1))
        return np.where(np.isfinite(error), error, np.nan)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pca) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.mean.tobytes())

    def to_json(self) -> dict[str, Any]:
        """Plain dict: little-endian float32 in base64."""
        return {"numbers": len(self.mean), "mean": _packed(self.mean), "components": _packed(self.components)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Pca:
        """The inverse of `to_json`."""
        return cls(_unpacked(value["mean"]), _unpacked(value["components"]).reshape(-1, value["numbers"]))


def fit(rows: Array) -> Pca | None:
    """Components of rows (n, ...) that explain 90 % of their variance, at most 16.

    None where there is nothing to fit: fewer than 50 finite rows, or all alike. Of more than 2,000 rows every second,
    third, … is taken.
    """
    flat = reduced(rows)
    flat = flat[np.isfinite(flat).all(axis=1)]
    if len(flat) < LEAST_ROWS:
        return None
    flat = flat[:: math.ceil(len(flat) / MOST_ROWS)]
    mean = flat.mean(axis=0)
    _, values, basis = np.linalg.svd(flat - mean, full_matrices=False)
    variance = values**2
    if not variance.sum() > 0:
        return None
    enough = int(np.searchsorted(np.cumsum(variance) / variance.sum(), EXPLAINED)) + 1
    return Pca(mean.astype(np.float32), basis[: min(enough, MOST_COMPONENTS)].astype(np.float32))


def reduced(rows: Array) -> Array:
    """Rows as vectors of at most 1,024 numbers, float64 (n, d): averages over squares of the last two axes, or of
    neighbours along a vector."""
    values = np.asarray(rows, np.float64)
    if values.ndim >= 3:
        side = 1
        while _numbers(values.shape, side) > MOST_NUMBERS and side < max(values.shape[-2:]):
            side += 1
        values = _averaged(_averaged(values, side, -1), side, -2)
    flat = values.reshape(len(values), -1)
    return _averaged(flat, math.ceil(flat.shape[1] / MOST_NUMBERS), -1)


def _numbers(shape: tuple[int, ...], side: int) -> int:
    return math.prod(shape[1:-2]) * math.ceil(shape[-2] / side) * math.ceil(shape[-1] / side)


def _averaged(values: Array, width: int, axis: int) -> Array:
    if width <= 1:
        return values
    starts = np.arange(0, values.shape[axis], width)
    sizes = np.diff(np.append(starts, values.shape[axis]))
    shape = [1] * values.ndim
    shape[axis] = len(sizes)
    return np.add.reduceat(values, starts, axis=axis) / sizes.reshape(shape)


def _packed(values: Array) -> str:
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()


def _unpacked(text: str) -> Array:
    return np.frombuffer(base64.b64decode(text), "<f4")
