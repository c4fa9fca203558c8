"""Checks of the arguments that the families share."""

from __future__ import annotations

from collections.abc import Sequence


def check_counts(**counts: int) -> None:
    """Each is a whole number of 1 or more.

    Raises:
        ValueError: one is not; it is named, with its value.
    """
    for name, value in counts.items():
        if not _is_count(value):
            raise ValueError(f"{name} is {value!r}: give a whole number of 1 or more")


def check_widths(widths: Sequence[int]) -> None:
    """At least one width, each a whole number of 1 or more.

    Raises:
        ValueError: it is not so.
    """
    if isinstance(widths, str) or not isinstance(widths, Sequence) or not widths or not all(map(_is_count, widths)):
        raise ValueError(f"widths is {widths!r}: give one or more whole numbers of 1 or more, e.g. [16, 32, 64]")


def check_dropout(dropout: float) -> None:
    """A probability, 0 ≤ dropout < 1.

    Raises:
        ValueError: it is not.
    """
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout!r}: give a probability of at least 0 and less than 1")


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """One of the allowed words.

    Raises:
        ValueError: it is another; the argument and the allowed words are named.
    """
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}: give one of {', '.join(allowed)}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
