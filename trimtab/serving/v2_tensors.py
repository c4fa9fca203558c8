"""Tensors of the Open Inference Protocol: in JSON, or as bytes behind it (the binary tensor data extension).

Worked example: {"name": "x", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}} takes the
next 16 bytes behind the JSON object; without the parameter, "data" holds 4 numbers, flat or nested, row-major.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from trimtab.errors import ProtocolError
from trimtab.serving.checked import Array, from_octets
from trimtab.serving.raw import little_endian
from trimtab.serving.tensors import to_array

DATATYPES = {
    "BOOL": "bool",
    **{f"INT{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
}
NAMES = {dtype: name for name, dtype in DATATYPES.items()}
BINARY_SIZE = "binary_data_size"
_BAD = "BAD_REQUEST"
_SHARED = "shared_memory_region"
_MOST_AXES = 16


class Binary:
    """The bytes behind a JSON object, taken tensor by tensor; `data` is None where the request has no such part."""

    def __init__(self, data: memoryview | None) -> None:
        self._data, self._start = data, 0

    def take(self, size: int, name: str) -> memoryview:
        """The next `size` bytes.

        Raises:
            ProtocolError: there are not so many.
        """
        if self._data is None:
            raise ProtocolError(
                "has binary data, but there is no Inference-Header-Content-Length", where=name, code=_BAD
            )
        end = self._start + size
        if end > len(self._data):
            left = len(self._data) - self._start
            raise ProtocolError(f"has {size} bytes of binary data, {left} are left of the body", where=name, code=_BAD)
        taken, self._start = self._data[self._start : end], end
        return taken

    def finish(self) -> None:
        """See that every byte belongs to a tensor.

        Raises:
            ProtocolError: some do not.
        """
        if self._data is not None and self._start != len(self._data):
            raise ProtocolError(f"{len(self._data) - self._start} bytes belong to no input", where="body", code=_BAD)


def read_tensor(entry: Any, place: int, binary: Binary) -> tuple[str, Array]:
    """Name and values of one entry of `inputs`.

    Raises:
        ProtocolError: it is not of the protocol's form, or its data are not what its shape and datatype say.
    """
    where = f"inputs[{place}]"
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise ProtocolError("must be an object with name, shape, datatype and data", where=where, code=_BAD)
    name, parameters = entry["name"], parameters_of(entry, where)
    dtype, shape = _dtype(entry.get("datatype"), where), _shape(entry.get("shape"), where)
    if _SHARED in parameters:
        raise ProtocolError("is in shared memory, which this server does not map", where=where, code=_BAD)
    size = parameters.get(BINARY_SIZE)
    if size is not None:
        if type(size) is not int or size < 0 or "data" in entry:
            raise ProtocolError(
                f"{BINARY_SIZE} must be a number of bytes, and there must be no data beside it", where=where, code=_BAD
            )
        return name, from_octets(where, binary.take(size, where), dtype, shape)
    return name, _from_json(entry.get("data"), where, dtype, shape)


def write_tensor(name: str, values: Array, *, binary: bool) -> tuple[dict[str, Any], bytes]:
    """One entry of `outputs`, and the bytes that go behind the JSON object for it.

    Numbers in JSON are float32 widened to float64, as /invocations writes them.
    """
    entry: dict[str, Any] = {"name": name, "datatype": NAMES[values.dtype.name], "shape": list(values.shape)}
    if binary:
        data = little_endian(values).tobytes()
        return {**entry, "parameters": {BINARY_SIZE: len(data)}}, data
    flat = np.ascontiguousarray(values).reshape(-1)
    return {**entry, "data": flat.astype(np.float64) if flat.dtype.kind == "f" else flat}, b""


def parameters_of(entry: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """The `parameters` of a request, input or output; unknown ones are for other servers.

    Raises:
        ProtocolError: they are no object.
    """
    found = entry.get("parameters")
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ProtocolError("must be an object", where=f"{where}.parameters", code=_BAD)
    return found


def _dtype(datatype: Any, where: str) -> str:
    if isinstance(datatype, str) and datatype in DATATYPES:
        return DATATYPES[datatype]
    if datatype in ("BYTES", "BF16"):
        raise ProtocolError(f"{datatype} is not taken: no release here has such an input", where=f"{where}.datatype")
    raise ProtocolError(f"must be one of {', '.join(DATATYPES)}", where=f"{where}.datatype", code=_BAD)


def _shape(shape: Any, where: str) -> list[int]:
    valid = isinstance(shape, list) and 0 < len(shape) <= _MOST_AXES
    if not valid or not all(type(size) is int and size >= 0 for size in shape):
        raise ProtocolError(f"must be a list of 1 to {_MOST_AXES} sizes", where=f"{where}.shape", code=_BAD)
    return list(shape)


def _from_json(data: Any, where: str, dtype: str, shape: list[int]) -> Array:
    if not isinstance(data, list):
        raise ProtocolError("must be a list of numbers", where=f"{where}.data", code=_BAD)
    nested = bool(data) and isinstance(data[0], list)
    if not nested and len(data) != prod(shape):
        raise ProtocolError(f"has {len(data)} values, shape {tuple(shape)} takes {prod(shape)}", where=f"{where}.data")
    # Whole numbers are read as int64, since a narrower cast would wrap what does not fit.
    read_as = dtype if np.dtype(dtype).kind in "bf" else "int64"
    values = to_array(data, {"name": f"{where}.data", "dtype": read_as, "shape": shape if nested else ["n"]})
    if read_as == "int64":
        limits = np.iinfo(dtype)
        if int(values.min()) < limits.min or int(values.max()) > limits.max:
            raise ProtocolError(f"has a value that does not fit {dtype}", where=f"{where}.data")
    return values.reshape(shape)
