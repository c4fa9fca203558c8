"""A few numbers for each image, sequence or wide vector, so that drift can be tested on columns one can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from trimtab.descriptors import descriptors
from trimtab.monitoring import pca
from trimtab.monitoring.pca import Pca

Array = np.ndarray
Form = Literal["image", "sequence", "vector"]
OUT_OF_RANGE, RECONSTRUCTION, LENGTH = "out_of_range", "reconstruction", "length"
FITTED = (OUT_OF_RANGE, RECONSTRUCTION)
MOST_CHANNELS = 4


@dataclass(frozen=True)
class Fitted:
    """What was learnt of an input from every other row of the reference, and is kept with the release.

    The rows in between are what windows are compared with: on the rows it was learnt from a range holds everything and
    components fit better than on any others.

    Attributes:
        shape: of a row. dtype: as text.
        low, high: range of the finite values; None without any.
        pca: components; None where there are too few rows, nothing varies, or values are codes (integers).
    """

    shape: tuple[int, ...]
    dtype: str
    low: float | None
    high: float | None
    pca: Pca | None

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        components = None if self.pca is None else self.pca.to_json()
        return {**vars(self), "shape": list(self.shape), "pca": components}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Fitted:
        """The inverse of `to_json`."""
        components = None if value["pca"] is None else Pca.from_json(value["pca"])
        return cls(tuple(value["shape"]), value["dtype"], value["low"], value["high"], components)


def form_of(values: Array) -> Form:
    """What rows (n, ...) are: "image" from three axes a row on, or two of which the shorter has at least 8; "sequence"
    for integers along one axis, and for two axes otherwise (steps × features); else "vector"."""
    if values.ndim >= 4 or (values.ndim == 3 and min(values.shape[1:]) >= 8):
        return "image"
    return "sequence" if values.ndim == 3 or values.dtype.kind in "iu" else "vector"


def fit(values: Array) -> Fitted:
    """Learn from rows (n, ...)."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (None, None)
    components = pca.fit(values) if values.dtype.kind == "f" else None
    return Fitted(values.shape[1:], values.dtype.str, low, high, components)


def described(values: Array, form: Form, fitted: Fitted | None) -> dict[str, Array]:
    """Descriptors of every row of an input.

    Those of `descriptors`; of an image of 2 to 4 channels the mean of each, "channel[0]"; of a sequence its length;
    with what was fitted the share of values out of the reference's range, and the error of rebuilding the row. Rows of
    another shape than the reference's have no error, which is then missing.

    Args:
        values: (n, ...), any numeric dtype.
        fitted: None for an input that the reference does not have.

    Returns:
        descriptor → float64 (n,).
    """
    result = descriptors(values)
    if form == "image" and values.ndim >= 4 and 2 <= values.shape[1] <= MOST_CHANNELS:
        result |= _channels(values)
    if form == "sequence":
        result[LENGTH] = _lengths(values)
    if fitted is not None and fitted.low is not None and fitted.high is not None:
        result[OUT_OF_RANGE] = _out_of_range(values, fitted.low, fitted.high)
    if fitted is not None and fitted.pca is not None and values.shape[1:] == fitted.shape:
        result[RECONSTRUCTION] = fitted.pca.error(values)
    return result


def _channels(values: Array) -> dict[str, Array]:
    means = np.asarray(values, np.float64).reshape(len(values), values.shape[1], -1).mean(axis=2)
    return {f"channel[{index}]": means[:, index] for index in range(values.shape[1])}


def _lengths(values: Array) -> Array:
    """Steps up to the last one that is not all zeros: what comes after is padding."""
    used = values.reshape(len(values), values.shape[1], -1) != 0
    steps = used.any(axis=2)
    return np.where(steps.any(axis=1), values.shape[1] - np.argmax(steps[:, ::-1], axis=1), 0).astype(np.float64)


def _out_of_range(values: Array, low: float, high: float) -> Array:
    flat = values.reshape(len(values), -1)
    with np.errstate(invalid="ignore"):
        share = ((flat < low) | (flat > high)).mean(axis=1)
    return np.where(np.isfinite(flat).all(axis=1), share, np.nan)
