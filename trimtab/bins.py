"""Bins of equal mass, in which stated probabilities are compared with what became of them."""

from __future__ import annotations

import numpy as np

Array = np.ndarray
BINS = 15


def bins_of(stated: Array, most: int = BINS) -> Array:
    """Bin of each row, int (n,), from 0 without gaps: parts of as many rows, equal probabilities in the same one.

    Args:
        stated: float (n,). most: bins at most.
    """
    ordered = np.sort(stated)
    size = min(most, len(ordered))
    first = ordered[(np.arange(1, size) * len(ordered)) // size]  # the lowest probability of each bin but the first
    found: Array = np.unique(np.searchsorted(first, stated, side="right"), return_inverse=True)[1]
    return found
