"""The door of every predictor: what a model takes and answers (spec.json), and arrays checked against it.

numpy and the standard library only: this file is part of the loader inside a release.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
SPEC_FILE = "spec.json"
DTYPES = ("float32", "int64", "bool")
_KIND_ORDER = "biuf"  # bool, integers, floats: a value may move to the right, never back


class InputError(ValueError):
    """The arrays given are not what the model takes; the message names the input, what was expected and given."""


def load_spec(folder: Path) -> dict[str, Any]:
    """Read and check `spec.json` of a converted folder.

    Returns:
        {"inputs": [{"name", "dtype", "shape": ["batch", ...]}], "outputs": [...]}; a string in a shape is a
        dynamic axis, a number a fixed size. "batch" comes first and is the same for every input; so is every other
        axis of one name. "axes", where it is there, has the bounds of such axes: {name: [smallest, largest]}. The
        first output is the one that decides; others are kept beside it.

    Raises:
        FileNotFoundError: there is no spec.json.
        ValueError: it is not a specification of this form.
    """
    path = Path(folder) / SPEC_FILE
    spec = json.loads(path.read_text(encoding="utf-8"))
    try:
        tensors = [*spec["inputs"], *spec["outputs"]]
        valid = bool(spec["inputs"]) and bool(spec["outputs"])
        for tensor in tensors:
            valid &= isinstance(tensor["name"], str) and tensor["dtype"] in DTYPES
            valid &= bool(tensor["shape"]) and tensor["shape"][0] == "batch"
        for low, high in spec.get("axes", {}).values():
            valid &= 1 <= int(low) <= int(high)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: not a model specification ({type(error).__name__}: {error})") from None
    if not valid:
        raise ValueError(f"{path}: not a model specification: a name, dtype or shape is wrong in {tensors}")
    return dict(spec)


def check_inputs(spec: Mapping[str, Any], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs as the model takes them: exactly its names, dtypes and ranks, C-contiguous.

    Integers are cast to another width (and bools, integers and wider floats to float32) when every value fits;
    floats are never cast to integers. NaN and infinity pass: what to do with them is not decided here.

    Args:
        spec: as `load_spec` returns it.
        inputs: name → array (batch, ...); all with the same batch ≥ 1.

    Raises:
        InputError: a name is missing or unknown, or a dtype, rank, size or value does not fit.
    """
    expected = {tensor["name"]: tensor for tensor in spec["inputs"]}
    _check_names(list(expected), list(inputs))
    ready = {name: _check_one(tensor, np.asarray(inputs[name])) for name, tensor in expected.items()}
    if spec.get("axes"):
        _check_axes(spec, ready)
    sizes = {name: len(array) for name, array in ready.items()}
    if len(set(sizes.values())) > 1:
        raise InputError(f"inputs have different batch sizes: {sizes}; every input needs the same")
    return ready


def _check_names(expected: list[str], given: list[str]) -> None:
    if set(expected) == set(given):
        return
    missing = [name for name in expected if name not in given]
    extra = [str(name) for name in given if name not in expected]
    parts = [f"missing: {missing}"] if missing else []
    parts += [f"unknown: {extra}"] if extra else []
    raise InputError(f"wrong inputs ({', '.join(parts)}); the model takes {expected}")


def _check_one(tensor: Mapping[str, Any], array: Array) -> Array:
    shape = tensor["shape"]
    fits = array.ndim == len(shape) and all(
        isinstance(want, str) or want == have for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits:
        raise _refused(tensor, array, "the shape does not fit")
    if array.shape[0] < 1:
        raise _refused(tensor, array, "there are no rows")
    if array.dtype != tensor["dtype"]:
        array = _cast(tensor, array)
    return np.ascontiguousarray(array)


def _check_axes(spec: Mapping[str, Any], ready: Mapping[str, Array]) -> None:
    """Sizes of named axes: within their bounds, and one in all inputs."""
    found: dict[str, tuple[int, str]] = {}
    for tensor in spec["inputs"]:
        for axis, size in zip(tensor["shape"], ready[tensor["name"]].shape, strict=True):
            if axis not in spec["axes"]:
                continue
            low, high = spec["axes"][axis]
            if not low <= size <= high:
                raise _refused(tensor, ready[tensor["name"]], f"{axis} is {size}, and may be {low} to {high}")
            held, where = found.setdefault(axis, (size, tensor["name"]))
            if held != size:
                raise InputError(
                    f"input {tensor['name']!r}: {axis} is {size}, and {held} in {where!r}; expected one size of "
                    f"{axis} in all inputs of a request"
                )


def _cast(tensor: Mapping[str, Any], array: Array) -> Array:
    wanted = np.dtype(tensor["dtype"])
    have = array.dtype.kind
    if have not in _KIND_ORDER:
        raise _refused(tensor, array, "the values are not numbers")
    if wanted.kind == "b":
        if have == "f" or not ((array == 0) | (array == 1)).all():
            raise _refused(tensor, array, "only true and false (or the integers 0 and 1) fit")
        return array.astype(wanted)
    if _KIND_ORDER.index(have) > max(_KIND_ORDER.index(wanted.kind), _KIND_ORDER.index("u") * (wanted.kind == "i")):
        raise _refused(tensor, array, "fractions are never rounded to integers")
    if wanted.kind == "i":
        limits = np.iinfo(wanted)
        if array.size and (int(array.min()) < limits.min or int(array.max()) > limits.max):
            raise _refused(tensor, array, f"value {int(array.max())} or {int(array.min())} does not fit")
        return array.astype(wanted)
    with np.errstate(over="ignore"):
        narrow = array.astype(wanted)
    if have == "f" and not np.array_equal(np.isinf(narrow), np.isinf(array)):
        raise _refused(tensor, array, "a value is too large")
    return narrow


def _refused(tensor: Mapping[str, Any], array: Array, why: str) -> InputError:
    shape = ", ".join(str(size) for size in tensor["shape"])
    return InputError(
        f"input {tensor['name']!r}: {why}; expected {tensor['dtype']} of shape ({shape}), "
        f"given {array.dtype} of shape {tuple(array.shape)}"
    )
