"""Named arrays over a pipe: what a predictor in another process is asked, and answers.

A message is its header's length (4 bytes, big endian), the header in JSON, and the arrays' bytes one after the other.
numpy and the standard library only: the other side runs this text too.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

HEADER_LIMIT = 1 << 20


def send(stream: BinaryIO, arrays: Mapping[str, NDArray[Any]], **more: Any) -> None:
    """Write one message; `more` are JSON values that go with the arrays."""
    ready = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    described = [[name, array.dtype.name, list(array.shape)] for name, array in ready.items()]
    header = json.dumps({**more, "arrays": described}).encode()
    stream.write(struct.pack(">I", len(header)) + header)
    for array in ready.values():
        stream.write(array.data.cast("B") if array.size else b"")
    stream.flush()


def receive(stream: BinaryIO) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
    """Read one message: its arrays and the rest of its header; None where the stream ends between messages.

    Raises:
        EOFError: it ends inside one. ValueError: what comes is not a message.
    """
    first = stream.read(4)
    if not first:
        return None
    (length,) = struct.unpack(">I", first) if len(first) == 4 else (0,)
    if not 0 < length <= HEADER_LIMIT:
        raise ValueError(f"not a message: a header of {length} bytes")
    header = json.loads(_exactly(stream, length))
    arrays = {}
    for name, dtype, shape in header.pop("arrays"):
        array = np.empty(shape, np.dtype(dtype))
        if array.size:
            view = array.data.cast("B")
            view[:] = _exactly(stream, len(view))
        arrays[name] = array
    return arrays, header


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise EOFError(f"the stream ended after {len(data)} of {size} bytes")
    return data
