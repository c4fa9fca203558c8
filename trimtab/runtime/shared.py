"""Named arrays in memory that two processes see; only where they lie (dtype, shape, offset) goes over a socket.

numpy and the standard library only: the other side runs this text too.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64  # bytes, of an array's first: the widest vectors of a CPU, and what runtimes take without a copy
SMALLEST = 1 << 16
_NUMBERS = "biuf"
Placed = list[list[Any]]  # [name, dtype, shape, offset] of each array


class Region:
    """Memory behind a file descriptor without a name: gone with the last process that holds it, however that ends.

    It grows to what it is asked to hold and never shrinks.

    Args:
        descriptor: of the memory; this object closes it.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._map: mmap.mmap | None = None

    @classmethod
    def new(cls) -> Region:
        """An empty one."""
        if not hasattr(os, "memfd_create"):
            with tempfile.TemporaryFile() as file:
                return cls(os.dup(file.fileno()))
        descriptor = os.memfd_create("trimtab", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        # Whoever reads memory that the other side has cut off is ended by SIGBUS.
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        return cls(descriptor)

    def put(self, arrays: Mapping[str, NDArray[Any]], start: int = 0) -> tuple[Placed, int]:
        """Copy arrays in, one after the other from byte `start` on; where they lie, and the byte behind the last.

        Raises:
            TypeError: an array holds something else than numbers. OSError: there is no room.
        """
        placed: Placed = []
        end = start
        for name, array in arrays.items():
            if array.dtype.kind not in _NUMBERS:
                raise TypeError(f"{name!r} is of dtype {array.dtype}, not of numbers")
            begin = -(-end // ALIGNMENT) * ALIGNMENT
            placed.append([name, array.dtype.name, list(array.shape), begin])
            end = begin + array.nbytes
        self._make_room(end)
        for view, array in zip(self.views(placed).values(), arrays.values(), strict=True):
            np.copyto(view, array)
        return placed, end

    def views(self, placed: Sequence[Sequence[Any]]) -> dict[str, NDArray[Any]]:
        """The arrays that lie there, not copied: the next `put`, of either side, may write over them.

        Raises:
            ValueError, TypeError: it does not describe numbers inside this memory.
        """
        found = {}
        for name, dtype, shape, begin in placed:
            kind = np.dtype(dtype)
            if kind.kind not in _NUMBERS or begin < 0 or any(size < 0 for size in shape):
                raise ValueError(f"not an array in shared memory: {dtype} of shape {shape} at {begin}")
            array = np.empty(shape, kind) if 0 in shape else self._view(kind, shape, begin)
            found[str(name)] = array
        return found

    def close(self) -> None:
        """Give the descriptor back; arrays that lie there stay readable."""
        os.close(self.descriptor)

    def _view(self, dtype: np.dtype[Any], shape: Sequence[int], begin: int) -> NDArray[Any]:
        count = int(np.prod(shape, dtype=object))
        if self._map is None or begin + count * dtype.itemsize > len(self._map):
            self._map_all()
        assert self._map is not None
        return np.frombuffer(self._map, dtype, count, begin).reshape(shape)

    def _make_room(self, end: int) -> None:
        if end > os.fstat(self.descriptor).st_size:
            os.ftruncate(self.descriptor, max(SMALLEST, 1 << (end - 1).bit_length()))

    def _map_all(self) -> None:
        size = os.fstat(self.descriptor).st_size
        if not size:
            raise ValueError("the shared memory is empty")
        self._map = mmap.mmap(self.descriptor, size)  # views of the map before keep that one alive
