"""Arrays that came as bytes become what a model takes, or an error that says where they do not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from trimtab.errors import ProtocolError
from trimtab.runtime.door import InputError, check_inputs

Array = np.ndarray
Spec = Mapping[str, Any]
DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
          "float16", "float32", "float64")  # fmt: skip
MOST_GROWTH = 8  # a byte becomes at most an int64; what grows more was packed to hurt
_MOST_AXES = 16
_LARGEST_AXIS = 2**31


def checked(spec: Spec, arrays: Mapping[str, Array], most_bytes: int) -> dict[str, Array]:
    """The arrays as the model takes them: its names, dtypes and shapes, aligned, every float finite.

    Args:
        spec: spec.json of the release. arrays: input name → array (batch, ...).
        most_bytes: largest size of all of them together in the model's dtypes.

    Raises:
        ProtocolError: 400 where they do not fit, with the first place; 413 where they are too large.
    """
    sizes = {tensor["name"]: np.dtype(tensor["dtype"]).itemsize for tensor in spec["inputs"]}
    if sum(array.size * sizes.get(name, 1) for name, array in arrays.items()) > most_bytes:
        raise ProtocolError(
            f"the inputs hold more than {most_bytes} bytes", fix="send fewer rows a request", code="BAD_REQUEST",
            status=413,
        )  # fmt: skip
    # A tensor behind a JSON header begins at any byte; a runtime may read it with instructions that need alignment.
    aligned = {
        name: array if array.flags.aligned else np.require(array, requirements="A") for name, array in arrays.items()
    }
    try:
        ready = check_inputs(spec, aligned)
    except InputError as error:
        raise ProtocolError(str(error)) from None
    for name, array in ready.items():
        if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
            index = np.unravel_index(int(finite.argmin()), array.shape)
            raise ProtocolError("is not a finite number", where=name + "".join(f"[{place}]" for place in index))
    return ready


def from_octets(name: str, data: memoryview, dtype: str, shape: Sequence[int]) -> Array:
    """A view of little-endian bytes in row-major order; nothing is copied.

    Args:
        name: of the input, for messages. data: exactly the tensor's bytes.
        dtype: one of `DTYPES`; a bool is a byte, 0 or 1.

    Raises:
        ProtocolError: another dtype, no values, another number of bytes, or a bool that is neither.
    """
    itemsize = size_of(dtype, name)
    if len(shape) > _MOST_AXES or any(not 0 <= size <= _LARGEST_AXIS for size in shape):
        raise ProtocolError(f"has a shape that no tensor here has (at most {_MOST_AXES} axes)", where=name)
    size = prod(shape) * itemsize
    if size != len(data):
        raise ProtocolError(f"has {len(data)} bytes; {dtype} of shape {tuple(shape)} takes {size}", where=name)
    if size == 0:
        raise ProtocolError(f"has no values: its shape is {tuple(shape)}", where=name)
    if dtype != "bool":
        return np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).reshape(shape)
    flags = np.frombuffer(data, np.uint8)
    if flags.max() > 1:
        raise ProtocolError("has a byte that is neither 0 nor 1", where=name)
    return flags.view(np.bool_).reshape(shape)


def size_of(dtype: str, name: str) -> int:
    """Bytes a value takes.

    Raises:
        ProtocolError: there is no such dtype here.
    """
    if dtype not in DTYPES:
        raise ProtocolError(f"has the dtype {dtype[:40]!r}, not one of {', '.join(DTYPES)}", where=name)
    return np.dtype(dtype).itemsize


def sole_input(spec: Spec, form: str) -> Mapping[str, Any]:
    """The model's only input.

    Raises:
        ProtocolError: it has several, and `form` cannot say which.
    """
    names = [tensor["name"] for tensor in spec["inputs"]]
    if len(names) != 1:
        raise ProtocolError(
            f"the model takes {len(names)} inputs, and {form} holds one",
            fix=f"send {names} as JSON, as Arrow, as application/octet-stream, or below /v2",
        )
    first: Mapping[str, Any] = spec["inputs"][0]
    return first
