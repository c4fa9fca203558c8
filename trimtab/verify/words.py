"""Figures as words, the same in every place that says them."""

from __future__ import annotations


def times(ratio: float, more: str, less: str, digits: int = 2) -> str:
    """A ratio with the word for its side of one, e.g. (3.66, "smaller", "larger") → "3.66x smaller".

    Args:
        ratio: above 0.
    """
    return f"{ratio:.{digits}f}x {more}" if ratio >= 1 else f"{1 / ratio:.{digits}f}x {less}"


def smaller(ratio: float) -> str:
    """Bytes before over bytes after, in words."""
    return times(ratio, "smaller", "larger")


def points(share: float) -> str:
    """A difference of shares in percentage points, signed, e.g. -0.0123 → "−1.23"."""
    return f"{100 * share:+.2f}".replace("-", "−")


def signed(value: float, digits: int = 4) -> str:
    """A difference with its sign, e.g. -0.0619 → "−0.0619"."""
    return f"{value:+.{digits}f}".replace("-", "−")


def percent(share: float, digits: int = 1) -> str:
    """A share, e.g. 0.982 → "98.2 %"."""
    return f"{100 * share:.{digits}f} %"
