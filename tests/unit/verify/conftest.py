"""A small made-up world for the gate and the report: one finalist, with figures a test may change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trimtab.candidate import Interval, Latency
from trimtab.recipe.schema import Budget
from trimtab.verify.accuracy import exact, from_counts
from trimtab.verify.edges import Edge
from trimtab.verify.evidence import Evidence
from trimtab.verify.parity import Parity
from trimtab.verify.seen import has_seen


def latency(speedup: float = 2.3, p50_s: float = 2e-4, p99_s: float = 4e-4, batch: int = 1) -> Latency:
    return Latency(batch, 1, p50_s, p99_s, 270, speedup, 0.9 * speedup, 1.1 * speedup, 9)


@pytest.fixture(scope="session")
def make_evidence() -> Callable[..., Evidence]:
    def make(
        lost: int = 4,
        gained: int = 2,
        n: int = 500,
        confidence: float = 0.95,
        speedup: float = 2.3,
        p99_s: float = 4e-4,
        size: int = 32_000,
        max_abs: float = 3e-6,
        atol: float | None = 1e-4,
        differing: int = 0,
        edge_ok: bool = True,
        noise: float = 0.05,
        champion: tuple[int, int] | None = None,
        must_improve: str | None = None,
        today: tuple[int, int] = (0, 0),
    ) -> Evidence:
        both = n - lost - gained - 5
        share: Interval = exact(differing, n, confidence)
        edges = (
            Edge("batch 1", True, "fine"),
            Edge("all zeros", edge_ok, "a <b>detail</b>"),
            Edge("NaN", False, "", False),
        )
        worst = ((7, (0.9, 0.1), (0.8, 0.2)),)
        versus = None
        if champion is not None:
            versus = {
                "gate": from_counts(n - sum(champion) - 5, *champion, n, confidence),
                "today": from_counts(n - sum(today) - 5, *today, n, confidence),
            }
        return Evidence(
            paired={"gate": from_counts(both, lost, gained, n, confidence)},
            parity=Parity(n, atol, max_abs, 1e-4, share, worst, edges),
            latency={1: latency(speedup, p99_s=p99_s), 32: latency(1.7, 2e-3, 3e-3, 32)},
            noise_floor={1: noise, 32: noise},
            size_bytes=size,
            original_size_bytes=100_000,
            versus_champion=versus,
            must_improve=must_improve,
            baseline_latency={1: latency(1.0, 4.6e-4, 7e-4), 32: latency(1.0, 3.4e-3, 5e-3, 32)},
        )

    return make


@pytest.fixture(scope="session")
def points() -> list[dict[str, Any]]:
    """Points of a search as plain mappings, one label hostile."""
    rows = []
    for i, label in enumerate(
        ["original", "int8", "prune-l1-0.25 distil", "prune-l2-0.5 distil int8", "<script>x</script>"]
    ):
        for j, target in enumerate(["onnxruntime-cpu", "openvino-cpu", "torchscript-cpu"]):
            if "int8" in label and j == 2:
                continue
            speed = 1.1 + 0.35 * i + 0.6 * (j == 1) - 0.2 * (j == 2)
            rows.append(
                {
                    "candidate": f"c{i}",
                    "target": target,
                    "label": label,
                    "accuracy": 0.986 - 0.004 * i * (1 + 0.3 * j),
                    "drop": 0.004 * i * (1 + 0.3 * j),
                    "speedup": {"1": speed, "32": 0.9 * speed},
                    "size_ratio": 1 + 1.1 * i,
                    "p99_ms": 0.9 / speed,
                }
            )
    return rows


@pytest.fixture(scope="session")
def meta() -> dict[str, Any]:
    before = np.diag(np.full(10, 49)) + np.eye(10, k=1, dtype=int)
    after = before.copy()
    after[8, 1] += 3
    after[8, 8] -= 3
    return {
        "budget": Budget(max_drop=0.03, min_speedup=1.0),
        "candidate": "c3",
        "label": "prune-l2-0.5 distil int8",
        "target": "openvino-cpu",
        "precision": "int8",
        "labels": [str(i) for i in range(10)],
        "confusion_before": before,
        "confusion_after": after,
        "seen": has_seen(np.arange(400) < 396, np.arange(500) < 490, 0.95),
        "lineage": [
            {"method": "train", "parameters": {"optimizer": "adamw", "epochs": 40}, "seed": 0},
            {"method": "prune", "parameters": {"norm": "l2", "ratio": 0.5}, "seed": None},
            {"method": "quantize", "parameters": {"calibration_rows": 200, "note": "<img src=x>"}, "seed": None},
        ],
        "environment": {"cpu": "a CPU & more", "cores": 2, "versions": {"torch": "2.13.0", "openvino": "2026.4.1"}},
    }
