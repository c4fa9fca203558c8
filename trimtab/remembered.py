"""Arrays that were computed once and are asked for again, by a digest of what they were computed from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

Array = np.ndarray
LIMIT = 256 << 20  # bytes


class Remembered:
    """Keeps arrays in memory until `limit` bytes are kept; what comes after that is computed each time.

    Nothing is thrown out: who asks in the same order again and again would find nothing in a memory that keeps the
    latest.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit, self._size = limit, 0
        self._kept: dict[bytes, Array] = {}
        self.hits = self.misses = 0

    def get(self, key: bytes) -> Array | None:
        """What was kept under this key; None for nothing. It must not be written to."""
        found = self._kept.get(key)
        self.hits, self.misses = self.hits + (found is not None), self.misses + (found is None)
        return found

    def put(self, key: bytes, value: Array) -> None:
        """Keep an array, if there is room."""
        if self._size + value.nbytes <= self._limit and key not in self._kept:
            self._kept[key] = value
            self._size += value.nbytes


def key_of(who: str, inputs: Mapping[str, Array]) -> bytes:
    """Digest of who is asked and of the bytes, dtypes and shapes of what."""
    digest = hashlib.blake2b(who.encode(), digest_size=16)
    for name, values in sorted(inputs.items()):
        digest.update(f"\0{name}\0{values.dtype.str}\0{values.shape}\0".encode())
        digest.update(np.ascontiguousarray(values).data.cast("B") if values.size else b"")
    return digest.digest()
