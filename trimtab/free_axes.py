"""Axes besides the batch that may have any size between two bounds: the length of a sequence, the height of an image.

They are declared in the recipe at an input and stand in spec.json by name, with their bounds beside the shapes:

    {"inputs": [{"name": "tokens", "dtype": "int64", "shape": ["batch", "length"]}], "axes": {"length": [2, 128]}, …}

Data come at one size, so other sizes are made from real rows: a shorter row is the beginning of one, a longer row is
one that begins again when it ends. Inputs that share an axis are cut and repeated together, so that a mask still covers
its tokens. Every value is one that occurs; what follows what at the seam may be nothing that occurs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class FreeAxis:
    """An axis by name, with its smallest and its largest size."""

    name: str
    low: int
    high: int


Axes = Mapping[str, Mapping[int, FreeAxis]]  # input → place of the axis in the array (the batch is 0) → the axis
FIXED: Axes = {}


def axes_of(spec: Mapping[str, Any]) -> Axes:
    """The axes of a specification that have bounds."""
    bounds = spec.get("axes", {})
    found = {
        tensor["name"]: {
            place: FreeAxis(size, *bounds[size]) for place, size in enumerate(tensor["shape"]) if size in bounds
        }
        for tensor in spec["inputs"]
    }
    return {name: places for name, places in found.items() if places}


def by_name(axes: Axes) -> dict[str, FreeAxis]:
    """Each axis once, in the order of the inputs."""
    return {axis.name: axis for places in axes.values() for axis in places.values()}


def size_of(inputs: Mapping[str, Array], axes: Axes, name: str) -> int:
    """The size that an axis has in these arrays."""
    return next(
        inputs[key].shape[place] for key, places in axes.items() for place, axis in places.items() if axis.name == name
    )


def sizes_to_try(axis: FreeAxis, held: int) -> dict[str, int]:
    """Sizes at which a model that froze the one of its example shows it: "shortest", "odd", "longest".

    Args:
        held: the size of the data; the odd one is another, in the midst of the range.
    """
    middle = (axis.low + axis.high) // 2
    inside = (size for size in range(axis.low + 1, axis.high) if size % 2 and size != held)
    odd = min(inside, key=lambda size: abs(size - middle), default=None)
    return {"shortest": axis.low, **({} if odd is None else {"odd": odd}), "longest": axis.high}


def resized(inputs: Mapping[str, Array], axes: Axes, name: str, size: int) -> dict[str, Array]:
    """The rows with one axis at another size: their beginning, or repeated until they are long enough."""
    found = dict(inputs)
    for key, places in axes.items():
        for place, axis in places.items():
            if axis.name == name:
                index = np.arange(size) % found[key].shape[place]
                found[key] = np.ascontiguousarray(found[key].take(index, axis=place))
    return found


def traceable(inputs: Mapping[str, Array], axes: Axes) -> dict[str, Array]:
    """The rows with no free axis of size 1: exporters take a 1 for a constant."""
    found = dict(inputs)
    for name, axis in by_name(axes).items():
        if size_of(found, axes, name) < 2:
            found = resized(found, axes, name, max(axis.low, 2))
    return found


def misfit(inputs: Mapping[str, Array], axes: Axes) -> str:
    """Why arrays (n, ...) do not have these axes, "" if they do."""
    sizes: dict[str, int] = {}
    for key, places in axes.items():
        if key not in inputs:
            return f"the data have no input {key!r} (they have {', '.join(inputs)})"
        for place, axis in places.items():
            shape = inputs[key].shape
            if place >= len(shape):
                return f"input {key!r} has {len(shape)} axes with the batch, so none at {place}"
            if not axis.low <= shape[place] <= axis.high:
                return f"axis {axis.name!r} of {key!r} is {shape[place]} in the data, not {axis.low} to {axis.high}"
            if sizes.setdefault(axis.name, shape[place]) != shape[place]:
                return f"axis {axis.name!r} is {sizes[axis.name]} in one input and {shape[place]} in {key!r}"
    return ""
