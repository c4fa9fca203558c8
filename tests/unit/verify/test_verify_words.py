"""Ratios below one are said as what they are."""

from __future__ import annotations

from trimtab.verify.words import smaller, times


def test_a_ratio_below_one_is_turned_over_and_not_called_smaller() -> None:
    assert smaller(3.657) == "3.66x smaller"
    assert smaller(0.8) == "1.25x larger"
    assert times(1.0, "faster", "slower", 1) == "1.0x faster"
