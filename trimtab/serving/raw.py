"""Tensors as raw bytes: application/octet-stream, described by headers, and application/x-npy, which describes itself.

    X-Trimtab-Shape: 8,3,32,32      may be left out where only the batch axis is free
    X-Trimtab-Dtype: float32        may be left out where it is the model's
    X-Trimtab-Input: image          may be left out where the model takes one input

Of several inputs each header names all, parted by ";", and their bytes follow one another in that order. Bytes are
little-endian, row-major, a bool is one byte. An answer has the same headers, with X-Trimtab-Output for the name.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from trimtab.errors import ProtocolError
from trimtab.serving.checked import Array, Spec, from_octets, size_of, sole_input

SHAPE, DTYPE, INPUT, OUTPUT = "X-Trimtab-Shape", "X-Trimtab-Dtype", "X-Trimtab-Input", "X-Trimtab-Output"
MOST_NPY_HEADER = 4096  # bytes; it is a Python literal, which is only safe to read while it is short
_SHAPE = re.compile(r"[0-9]{1,10}(\s*,\s*[0-9]{1,10})*\s*,?")


def read_octets(body: bytes, headers: Mapping[str, str], spec: Spec) -> dict[str, Array]:
    """The tensors of an octet-stream, as they lie in the body.

    Raises:
        ProtocolError: a header cannot be read or is missing, or the bytes are not what the headers say.
    """
    tensors = {tensor["name"]: tensor for tensor in spec["inputs"]}
    names = _parts(headers.get(INPUT)) or [sole_input(spec, f"a body without {INPUT}")["name"]]
    unknown = [name for name in names if name not in tensors]
    if unknown or len(set(names)) != len(names):
        raise ProtocolError(f"must name inputs of the model once each: {list(tensors)}", where=INPUT)
    dtypes = _parts(headers.get(DTYPE)) or [str(tensors[name]["dtype"]) for name in names]
    shapes = _parts(headers.get(SHAPE)) or [_whole_body(tensors, names, dtypes, len(body))]
    if not len(names) == len(dtypes) == len(shapes):
        raise ProtocolError(
            f"{INPUT} names {len(names)}, {DTYPE} {len(dtypes)}, {SHAPE} {len(shapes)}",
            fix='part them by ";", in one order',
        )
    arrays, view, start = {}, memoryview(body), 0
    for name, dtype, text in zip(names, dtypes, shapes, strict=True):
        shape = _shape(text)
        end = start + prod(shape) * size_of(dtype, name)
        last = name == names[-1]
        arrays[name] = from_octets(name, view[start:] if last else view[start:end], dtype, shape)
        start = end
    return arrays


def read_npy(body: bytes, spec: Spec) -> dict[str, Array]:
    """The one array of a .npy file (format 1.0 or 2.0). An array of objects is refused, never unpickled.

    Raises:
        ProtocolError: not such a file, an array of another kind, or not as many bytes as its header says.
    """
    name = sole_input(spec, "application/x-npy")["name"]
    stream = io.BytesIO(body)
    try:
        shape, by_column, dtype = _npy_header(stream)
    except Exception:  # numpy's reader raises whatever evaluating the header raised
        raise ProtocolError(
            f"the body is not a .npy file of version 1.0 or 2.0 with a header of at most {MOST_NPY_HEADER} bytes",
            code="BAD_REQUEST",
        ) from None
    if dtype.hasobject or dtype.byteorder == ">":
        raise ProtocolError(f"has the dtype {dtype.str[:40]}: plain little-endian numbers are taken", where=name)
    array = from_octets(name, memoryview(body)[stream.tell() :], dtype.name, shape[::-1] if by_column else shape)
    return {name: array.T if by_column else array}


def write_octets(name: str, values: Array) -> tuple[bytes, dict[str, str]]:
    """An output's bytes, and the headers that describe them."""
    shape = ",".join(str(size) for size in values.shape)
    return little_endian(values).tobytes(), {OUTPUT: name, SHAPE: shape, DTYPE: values.dtype.name}


def write_npy(values: Array) -> bytes:
    """An output as a .npy file."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, little_endian(values), allow_pickle=False)
    return stream.getvalue()


def little_endian(values: Array) -> Array:
    """The values as they are sent: little-endian, row-major; as they are on the usual machine."""
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<"))


def _parts(header: str | None) -> list[str]:
    return [part.strip() for part in header.split(";")] if header is not None and header.strip() else []


def _shape(text: str) -> list[int]:
    if _SHAPE.fullmatch(text) is None:
        raise ProtocolError('must be sizes parted by ",", for example 8,3,32,32', where=SHAPE)
    return [int(size) for size in text.split(",") if size.strip()]


def _whole_body(tensors: Mapping[str, Any], names: list[str], dtypes: list[str], size: int) -> str:
    """The shape of a body that holds one input and nothing else, where all but the batch is fixed."""
    inner = tensors[names[0]]["shape"][1:]
    if len(names) != 1 or any(isinstance(axis, str) for axis in inner):
        raise ProtocolError("is missing", where=SHAPE, fix='give the sizes, parted by ","; of several inputs by ";"')
    row = prod(inner) * size_of(dtypes[0], names[0])
    rows, rest = divmod(size, row) if row else (0, size)
    if rest or not rows:
        raise ProtocolError(
            f"the body has {size} bytes; a row of {dtypes[0]} {tuple(inner)} takes {row}", where=names[0]
        )
    return ",".join(str(axis) for axis in (rows, *inner))


def _npy_header(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, by_column, dtype = readers[version](stream, max_header_size=MOST_NPY_HEADER)
    return shape, by_column, dtype
