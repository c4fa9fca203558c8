"""Nested lists as they come from JSON become one array, or an error that says at which index they cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trimtab.errors import ProtocolError

Array = np.ndarray
_EXACT = 2**53  # beyond it a float64 does not hold every integer


def to_array(values: Any, tensor: Mapping[str, Any]) -> Array:
    """An array of the tensor's dtype and rank.

    Args:
        values: nested lists of numbers, booleans or numeric strings.
        tensor: one of the specification's inputs: name, dtype, shape.

    Raises:
        ProtocolError: ragged, of another shape, not numeric, null, not finite, or not a whole number of the dtype.
    """
    name, dtype = tensor["name"], np.dtype(tensor["dtype"])
    if not isinstance(values, list):
        raise ProtocolError("must be a list of rows", where=name)
    if not values:
        raise ProtocolError("has no rows", where=name)
    try:
        with np.errstate(over="ignore"):
            array = _floats(values, dtype) if dtype.kind == "f" else _whole(values, tensor)
    except (ValueError, TypeError, OverflowError):
        raise _located(values, tensor) from None
    if array.ndim != len(tensor["shape"]) or not _fits(array.shape, tensor["shape"]):
        raise ProtocolError(f"has shape {array.shape}, the model takes {_text(tensor['shape'])}", where=name)
    return array


def _floats(values: list[Any], dtype: np.dtype) -> Array:
    array = np.array(values, dtype)
    if not np.isfinite(array).all():
        raise ValueError
    return array


def _whole(values: list[Any], tensor: Mapping[str, Any]) -> Array:
    array = np.array(values)
    if array.dtype.kind == "U":  # numeric strings, as the stock server takes them; mixed with numbers all are text
        array = array.astype(np.int64)
    if array.dtype.kind == "f":
        if not ((np.trunc(array) == array) & (np.abs(array) <= _EXACT)).all():
            raise ValueError
        array = array.astype(np.int64)
    if array.dtype.kind not in "iub" or (array.dtype.kind == "u" and (array > np.iinfo(np.int64).max).any()):
        raise ValueError
    if tensor["dtype"] == "bool" and not ((array == 0) | (array == 1)).all():
        raise ValueError
    return array.astype(tensor["dtype"])


def _located(values: list[Any], tensor: Mapping[str, Any]) -> ProtocolError:
    """What is wrong with values that numpy refused, and where; only the first place is looked for."""
    shape = list(tensor["shape"])
    found = _first_fault(values, shape, tensor["dtype"], ())
    if found is None:
        return ProtocolError(f"cannot be read as {tensor['dtype']}", where=tensor["name"], code="BAD_REQUEST")
    index, what, code = found
    place = "".join(f"[{i}]" for i in index)
    return ProtocolError(what, where=f"{tensor['name']}{place}", code=code)


def _first_fault(
    value: Any, shape: Sequence[int | str], dtype: str, index: tuple[int, ...]
) -> tuple[tuple[int, ...], str, str] | None:
    if not shape:
        what = _scalar_fault(value, dtype)
        return (index, *what) if what else None
    if not isinstance(value, list):
        return index, f"must be a list: the rows are ragged or lack {len(shape)} dimensions", "BAD_REQUEST"
    if isinstance(shape[0], int) and len(value) != shape[0]:
        return index, f"has {len(value)} values, the model takes {shape[0]}", "BAD_REQUEST"
    inner = list(shape[1:])
    if inner and isinstance(inner[0], str) and value and isinstance(value[0], list):
        inner[0] = len(value[0])  # a free axis has one length in a request
    faults = (_first_fault(item, inner, dtype, (*index, place)) for place, item in enumerate(value))
    return next((fault for fault in faults if fault is not None), None)


def _scalar_fault(value: Any, dtype: str) -> tuple[str, str] | None:
    if value is None or value == "":
        return "is null; missing values are not imputed here", "INVALID_PARAMETER_VALUE"
    if isinstance(value, list | dict):
        return "must be a number: the rows are ragged or have too many dimensions", "BAD_REQUEST"
    try:
        with np.errstate(over="ignore"):
            number = np.float32(value) if dtype == "float32" else float(value)
    except (ValueError, TypeError, OverflowError):
        return "is not a number", "BAD_REQUEST"
    if not np.isfinite(number):
        return f"is not a finite {dtype}", "INVALID_PARAMETER_VALUE"
    limit = _EXACT if isinstance(value, float) else 2.0**63  # a larger integer was rounded when it was read
    if dtype == "int64" and (number != np.trunc(number) or not -limit <= number <= limit or value == 2**63):
        return "is not a whole number that fits int64", "INVALID_PARAMETER_VALUE"
    if dtype == "bool" and number not in (0, 1):
        return "is neither true nor false", "INVALID_PARAMETER_VALUE"
    return None


def _fits(given: Sequence[int], wanted: Sequence[int | str]) -> bool:
    return all(isinstance(want, str) or want == have for want, have in zip(wanted, given, strict=True))


def _text(shape: Sequence[int | str]) -> str:
    return f"({', '.join(map(str, shape))})"
