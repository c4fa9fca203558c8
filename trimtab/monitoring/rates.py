"""Shares of requests that fail, compared with what is usual: score intervals, which hold for small counts too."""

from __future__ import annotations

import math

Z99 = 2.5758293035489004  # of a two-sided 99 % interval: one window in 200 is beyond its upper or lower end by chance


def wilson(bad: int, total: int, z: float = Z99) -> tuple[float, float]:
    """Score interval of a share (Wilson 1927).

    Args:
        bad, total: 0 ≤ bad ≤ total, total ≥ 1. z: normal quantile of the confidence.
    """
    share, square = bad / total, z * z
    middle = (share + square / (2 * total)) / (1 + square / total)
    half = z / (1 + square / total) * math.sqrt(share * (1 - share) / total + square / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def rise(bad: int, total: int, usual_bad: int, usual_total: int, z: float = Z99) -> tuple[float, float, float]:
    """How much larger a share is than the usual one, with its interval (Newcombe 1998, method 10).

    Args:
        usual_bad, usual_total: what it is compared with; a total of 0 means "nothing is known": the share itself is
            then compared with none at all.

    Returns:
        (difference, lower end, upper end).
    """
    share = bad / total
    low, high = wilson(bad, total, z)
    if usual_total == 0:
        return share, low, high
    usual = usual_bad / usual_total
    usual_low, usual_high = wilson(usual_bad, usual_total, z)
    difference = share - usual
    return (
        difference,
        difference - math.hypot(share - low, usual_high - usual),
        difference + math.hypot(high - share, usual - usual_low),
    )
