"""The range of an activation that makes the mean squared error of its quantization least.

A range that holds every value spends its 256 levels on the rarest; a narrower one clips those and is finer for all
others. Which is best is told by the histogram of the values: Nagel et al. 2021, "A White Paper on Neural Network
Quantization", arXiv:2106.08295, section 3.1 (range setting by MSE).

The error is integrated over the histogram, not sampled at the middle of its bins: where a quantization step is about
as wide as a bin, the middles may all fall on levels, and a range that is far too narrow looks exact.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray
LEVELS = 256
SHRINK = np.linspace(0.01, 1.0, 100)  # shares of an end that are tried
ROUNDS = 2  # the two ends are improved in turn


def mse_range(counts: Array, edges: Array, low: float, high: float) -> tuple[float, float]:
    """Ends (low, high) of the range with the least mean squared error.

    Args:
        counts: (bins,), values in each bin. edges: (bins + 1,), ascending.
        low, high: the least and the largest value. They are widened to hold 0, which a level must represent.

    Returns:
        Ends within those given, low ≤ 0 ≤ high; the ends given where there is nothing to choose (no values, or all
        of them 0).
    """
    least, most = min(low, 0.0), max(high, 0.0)
    total = float(np.sum(counts))
    if not total or least == most:
        return least, most
    filled = np.flatnonzero(counts)
    inside = slice(filled[0], filled[-1] + 1)
    counts, edges = counts[inside] / total, np.clip(edges[filled[0] : filled[-1] + 2], least, most)
    share = SHRINK[np.argmin([squared_error(counts, edges, least * s, most * s) for s in SHRINK])]
    ends = np.array([least, most]) * share
    if not least or not most:
        return float(ends[0]), float(ends[1])
    for _ in range(ROUNDS):
        ends[0] = least * SHRINK[np.argmin([squared_error(counts, edges, least * s, ends[1]) for s in SHRINK])]
        ends[1] = most * SHRINK[np.argmin([squared_error(counts, edges, ends[0], most * s) for s in SHRINK])]
    return float(ends[0]), float(ends[1])


def squared_error(weights: Array, edges: Array, low: float, high: float) -> float:
    """Mean of (x - quantized x)² for values that are spread evenly within each bin.

    Args:
        weights: (bins,), share of the values in each bin. edges: (bins + 1,), ascending.
        low, high: of the range, low ≤ 0 ≤ high and not both 0.
    """
    step = (high - low) / (LEVELS - 1)
    inside = np.clip(edges, low, high)
    whole = np.round((inside - low) / step)
    left = inside - low - whole * step
    # The integral of the error up to an edge: step³/12 for every level passed, left³/3 within its own, and the
    # distance from the end, cubed over three, beyond the range.
    upto = whole * step**3 / 12 + left**3 / 3 + (edges - inside) ** 3 / 3
    widths = np.diff(edges)
    return float(np.sum(weights * np.diff(upto) / np.where(widths > 0, widths, 1.0)))
