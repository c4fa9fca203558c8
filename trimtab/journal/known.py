"""Which rows the journal holds, in 8 bytes a row, so that a label for an unknown one is told at once."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import numpy as np

_LIMIT = 65_536


class KnownRows:
    """A set of (request id, row) kept as 64-bit hashes: recent ones in a set, older ones in sorted arrays.

    Two different rows share a hash with probability 2^-64 a pair; the reader joins by the ids themselves, so such a
    label would only be reported as known when it is not.
    """

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._sorted: list[np.ndarray] = []
        self._adding = threading.Lock()

    def add(self, request_ids: Iterable[str], rows: Iterable[int]) -> None:
        """Add rows; from any thread."""
        with self._adding:
            self._recent.update(map(hash, zip(request_ids, rows, strict=True)))
            if len(self._recent) >= _LIMIT:
                self._sorted.append(np.sort(np.fromiter(self._recent, np.int64, len(self._recent))))
                self._recent = set()

    def __contains__(self, key: tuple[str, int]) -> bool:
        code = hash(key)
        return code in self._recent or any(_holds(values, code) for values in self._sorted)

    def __len__(self) -> int:
        return len(self._recent) + sum(map(len, self._sorted))


def _holds(values: np.ndarray, code: int) -> bool:
    place = int(np.searchsorted(values, code))
    return place < len(values) and int(values[place]) == code
