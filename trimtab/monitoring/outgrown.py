"""A release that was verified under another budget: what no longer meets the recipe's limits of today."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from trimtab.monitoring.service import Breach

if TYPE_CHECKING:
    from trimtab.recipe.schema import Budget


def outgrown(figures: Mapping[str, Any], budget: Budget) -> Iterator[Breach]:
    """Breaches of a budget that was tightened since the release.

    Args:
        figures: "size_ratio", "speedup" and "p99_ms" as verified (`figures` of its release.json); what is absent is
            not compared.
    """
    size, speedup, p99 = (figures.get(key) for key in ("size_ratio", "speedup", "p99_ms"))
    if size is not None and size < budget.min_size_ratio:
        detail = f"the release is {size:.2f} times smaller; the budget asks for {budget.min_size_ratio:g} now"
        yield Breach("size", detail)
    if speedup is not None and speedup < budget.min_speedup:
        detail = f"the release was verified {speedup:.2f} times as fast; the budget asks for {budget.min_speedup:g} now"
        yield Breach("latency", detail)
    if p99 is not None and budget.max_p99_ms is not None and p99 > budget.max_p99_ms:
        detail = f"the release was verified with a p99 of {p99:.3g} ms; the budget allows {budget.max_p99_ms:g} now"
        yield Breach("latency", detail)
