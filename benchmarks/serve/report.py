"""From what was measured to the one JSON object."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.machine import commit, cpu
from benchmarks.serve.closed_loop import Load
from benchmarks.serve.task import BATCHES, CELLS, batch_of

Measured = Mapping[tuple[str, str], Sequence[Load]]  # (server, cell) → one a round
OURS, STOCK = "trimtab", "mlflow"


def capacity(measured: Measured, server: str, cell: str = "json_b1") -> float | None:
    """Requests a second, median over rounds; None where there is no such cell."""
    loads = measured.get((server, cell))
    return statistics.median(load.req_s for load in loads) if loads else None


def report(
    measured: Measured,
    limits: Mapping[int, Sequence[float]],
    beside: Mapping[int, Sequence[float]],
    journal: Mapping[str, float],
    open_loop: Mapping[str, Mapping[str, Any]],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """The object as it is printed.

    Args:
        limits: batch → calls a second of the bare runtime, one a round. beside: of each of two such loops at once.
        journal: rows, answered, mb_s. open_loop: server → rate → p99 in milliseconds.
        about: how it was measured, and why cells are missing.
    """
    servers = sorted({server for server, _ in measured})
    limit, both = (
        {f"b{batch}": round(statistics.median(rates[batch]), 1) for batch in BATCHES} for rates in (limits, beside)
    )
    binary = capacity(measured, OURS, "binary_b8")
    return {
        "commit": commit(),
        "cpu": cpu(),
        "req_s": {server: {cell: _median(measured, server, cell, "req_s") for cell in CELLS} for server in servers},
        "p99_ms": {server: {cell: _median(measured, server, cell, "p99_ms") for cell in CELLS} for server in servers},
        "limit": limit,
        "limit_of_two_at_once": both,
        "ratio": {cell: _ratio(measured, cell)[0] for cell in CELLS},
        "share_of_limit_b8": round(binary / limit["b8"], 3) if binary else None,
        "journal": journal,
        "open_loop": open_loop,
        "ratio_spread": {cell: _ratio(measured, cell)[1] for cell in CELLS},
        "p50_ms": {server: {cell: _median(measured, server, cell, "p50_ms") for cell in CELLS} for server in servers},
        **about,
    }


def _median(measured: Measured, server: str, cell: str, what: str) -> float | None:
    loads = measured.get((server, cell))
    return round(statistics.median(getattr(load, what) for load in loads), 2) if loads else None


def _ratio(measured: Measured, cell: str) -> tuple[float | None, list[float] | None]:
    """Ours over stock MLflow's JSON of the same batch, round by round: median, and least and most."""
    ours, stock = measured.get((OURS, cell)), measured.get((STOCK, f"json_b{batch_of(cell)}"))
    if not ours or not stock:
        return None, None
    each = [mine.req_s / other.req_s for mine, other in zip(ours, stock, strict=True)]
    return round(statistics.median(each), 2), [round(min(each), 2), round(max(each), 2)]
