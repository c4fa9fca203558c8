"""The bootstrap of rows: how far a figure would move if other rows of the same kind had been drawn (Efron 1979)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trimtab.intervals import basic_interval

__all__ = ["basic_interval", "weights"]
Array = np.ndarray
RESAMPLES = 2000
CHUNK = 100  # resamples held at once


def weights(rows: int, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[Array]:
    """How often each row is drawn in each resample: float64 (at most CHUNK, rows), all resamples one after another.

    Two models that are given the same weights are compared on the same rows: the paired bootstrap.
    """
    random = np.random.default_rng(seed)
    for start in range(0, resamples, CHUNK):
        chosen = random.integers(rows, size=(min(CHUNK, resamples - start), rows))
        yield np.stack([np.bincount(one, minlength=rows) for one in chosen]).astype(np.float64)
