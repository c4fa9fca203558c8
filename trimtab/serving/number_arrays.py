"""Arrays of numbers from the bytes of a JSON body, without a Python object for each number.

Most bodies are one big array: `{"instances": [[[0.1, …` or `{"inputs": {"name": [[…`. simdjson reads it into a flat
buffer two to three times faster than a parser that makes lists of it. A buffer has no shape, though, and simdjson has
its own view of doubled keys and of what is not a number. So only a body that is seen to be regular is read here:
nothing but the wanted keys, each once; arrays of exactly the model's shape; nothing in them but numbers that fit.
Everything else, every error among it, is left to the ordinary parser, whose answer for such a body is the same.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import simdjson

Array = np.ndarray
FORMS = ("instances", "inputs")
_BEGINS = re.compile(rb'\s*\{\s*"(?:instances|inputs)"\s*:\s*(?:\{|\[\s*[\[0-9-])')
_OF_DTYPE = {"float32": ("d", np.float64), "int64": ("i", np.int64)}
_CHUNK = 2**16  # bytes looked at together, so that what is made of them stays in the processor's cache
_KEPT_BYTES = 2**20  # a parser keeps several times the size of the largest body it has read
_own = threading.local()


def number_arrays(body: bytes, tensors: Sequence[Mapping[str, Any]]) -> dict[str, Array] | None:
    """The arrays of a regular body.

    Args:
        body: as received. tensors: the specification's inputs: name, dtype, shape.

    Returns:
        Input name → array (batch, ...) of the tensor's dtype, finite; None where the body is to be read otherwise.
    """
    if _BEGINS.match(body) is None or any(tensor["dtype"] not in _OF_DTYPE for tensor in tensors):
        return None
    parser = _parser(len(body))
    try:
        return _read(parser.parse(body), body, tensors)
    except (ValueError, TypeError, RuntimeError):  # not JSON, or not only numbers that fit
        _own.parser = None  # what was being read may still hold it
        return None


def _parser(size: int) -> simdjson.Parser:
    if size > _KEPT_BYTES:
        return simdjson.Parser()
    parser = getattr(_own, "parser", None)
    if parser is None:
        parser = _own.parser = simdjson.Parser()
    return parser


def _read(document: Any, body: bytes, tensors: Sequence[Mapping[str, Any]]) -> dict[str, Array] | None:
    form = _only(document)
    if form not in FORMS:
        return None
    data = document[form]
    names = [tensor["name"] for tensor in tensors]
    if isinstance(data, simdjson.Object):
        keys = list(data)
        if sorted(keys) != sorted(names):
            return None
        found = [(data[name], tensor) for name, tensor in zip(names, tensors, strict=True)]
    elif len(tensors) == 1:
        found, keys = [(data, tensors[0])], []
    else:
        return None
    arrays, lists = {}, 0
    for values, tensor in found:
        array = _array(values, tensor)
        if array is None:
            return None
        arrays[tensor["name"]] = array
        lists += sum(prod(array.shape[:depth]) for depth in range(array.ndim))
    # A list in the place of a number, [[1], [2]] for [1, 2], is flattened away; it shows as a bracket too many.
    return arrays if _brackets(body) == lists and not any("[" in key for key in keys) else None


def _only(document: Any) -> str | None:
    keys = list(document) if isinstance(document, simdjson.Object) else []
    return keys[0] if len(keys) == 1 else None


def _array(values: Any, tensor: Mapping[str, Any]) -> Array | None:
    shape = _shape(values, tensor["shape"])
    if shape is None:
        return None
    kind, wide = _OF_DTYPE[tensor["dtype"]]
    flat = np.frombuffer(
        values.as_buffer(of_type=kind), wide
    )  # TypeError where anything but numbers and lists is in it
    if not _regular(values, shape):
        return None
    with np.errstate(over="ignore"):
        array = flat.astype(tensor["dtype"], copy=False).reshape(shape)  # ValueError for another number of numbers
    return array if array.dtype.kind == "i" or np.isfinite(array).all() else None


def _shape(values: Any, wanted: Sequence[int | str]) -> tuple[int, ...] | None:
    """The shape of nested lists if all are as long as the first at their depth; None unless it is the wanted one."""
    shape = []
    for want in wanted:
        if not isinstance(values, simdjson.Array) or not len(values) or (isinstance(want, int) and want != len(values)):
            return None
        shape.append(len(values))
        values = values[0]
    return tuple(shape)


def _regular(values: Any, shape: tuple[int, ...]) -> bool:
    """Whether all lists are as long as the first at their depth; TypeError for a number in the place of a list."""
    if len(shape) > 2:
        return len(values) == shape[0] and all(_regular(item, shape[1:]) for item in values)
    if len(values) != shape[0]:
        return False
    if len(shape) == 2:
        for item in values:  # most of the work: a loop is three times as fast as all() of a generator
            if len(item) != shape[1]:
                return False
    return True


def _brackets(body: bytes) -> int:
    codes = np.frombuffer(body, np.uint8)
    return sum(int(np.count_nonzero(codes[at : at + _CHUNK] == ord("["))) for at in range(0, len(codes), _CHUNK))
