"""From what was measured to the one JSON object."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compress.peers import FILES, PUBLISHED, size
from benchmarks.machine import commit, cpu
from trimtab.verify.accuracy import paired

Run = Mapping[str, Any]
DROPS = {"drop_0.5": 0.005, "drop_1.5": 0.015}
SIZES = {"drop_0.5": 4.0, "drop_1.5": 7.0}  # times smaller than FP32, asked for with the drop
ONLY = {"ort_only_0.5": ("onnxruntime-cpu", 0.005)}


def choose(points: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """For each of our figures the fastest build at batch 32 whose drop on validation is within it; absent if none.

    Of the same network with finer and coarser weights, which are equally fast, it is as in a release: the finer one
    where it is as small as is asked for, else the smallest that is within the drop.
    """
    wanted = {**{name: (None, drop) for name, drop in DROPS.items()}, **ONLY}
    chosen = {}
    for name, (target, drop) in wanted.items():
        able = [p for p in points if p["drop"] <= drop + 1e-12 and target in (None, p["target"])]
        if able:
            best = max(able, key=lambda point: point["speedup"]["32"])
            chosen[name] = _of_size([point for point in able if _network(point) == _network(best)], SIZES.get(name, 1))
    return chosen


def _of_size(same: Sequence[Mapping[str, Any]], asked: float) -> Mapping[str, Any]:
    small = [point for point in same if point["size_ratio"] >= asked]
    return min(small, key=lambda p: p["size_ratio"]) if small else max(same, key=lambda p: p["size_ratio"])


def _network(point: Mapping[str, Any]) -> Any:
    """What decides its latency: all but which values its weights have."""
    return point["target"], [step for step in point["steps"] if step[0] != "coarsen"]


def report(
    peers: Path, chosen: Mapping[str, Mapping[str, Any]], runs: Sequence[Run], minutes: float, unseen: Any
) -> dict[str, Any]:
    """The object as it is printed."""
    fp32 = size(peers, "onnxruntime fp32")
    original = _hits(runs, "eager")
    figures = {name: _figures(runs, name, original) | {"size_ratio": fp32 / size(peers, name)} for name in FILES}
    ours: dict[str, Any] = {
        name: _figures(runs, name, original)
        | {
            "size_ratio": fp32 / point["size_bytes"],
            "recipe": f"{point['label']} on {point['target']}",
            "steps": point["steps"],
            "validation_drop": point["drop"],
        }
        for name, point in chosen.items()
    }
    return {
        "commit": commit(),
        "cpu": cpu(),
        "n": len(runs),
        "original": float(original.mean()),
        "rows": len(original),
        "peers": figures,
        "ours": ours,
        "ratio": _ratios(runs, figures, ours),
        "unseen": None if unseen is None else _unseen(unseen),
        "minutes": round(minutes, 1),
    }


def _hits(runs: Sequence[Run], name: str) -> np.ndarray:
    return np.array([mark == "1" for mark in runs[0]["right"][name]])


def _figures(runs: Sequence[Run], name: str, original: np.ndarray) -> dict[str, Any]:
    own = _hits(runs, name)
    pair = paired(original, own, 0.95).difference
    speeds = {batch: [run["speedup"][name][batch] for run in runs] for batch in ("1", "32")}
    return {
        "accuracy": float(own.mean()),
        "difference": [pair.value, pair.low, pair.high],
        **{f"speedup_b{batch}": statistics.median(values) for batch, values in speeds.items()},
        "spread": {f"b{batch}": [min(values), max(values)] for batch, values in speeds.items()},
    }


def _ratios(runs: Sequence[Run], peers: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Ours over the fastest published peer within the same drop; the median over processes of the ratio in each."""

    def ratio(name: str, batch: str, drop: float, rivals: Sequence[str]) -> Any:
        if name not in ours:
            return None
        within = [rival for rival in rivals if -peers[rival]["difference"][0] <= drop]
        best = max(within, key=lambda rival: peers[rival][f"speedup_b{batch}"])
        each = [run["speedup"][name][batch] / run["speedup"][best][batch] for run in runs]
        return {"ratio": statistics.median(each), "spread": [min(each), max(each)], "over": best}

    return {
        "b32_0.5": ratio("drop_0.5", "32", 0.005, PUBLISHED),
        "b1_0.5": ratio("drop_0.5", "1", 0.005, PUBLISHED),
        "b32_1.5": ratio("drop_1.5", "32", 0.015, PUBLISHED),
        "ort_0.5": ratio("ort_only_0.5", "32", 1.0, ["onnxruntime int8"]),
    }


def _unseen(found: Mapping[str, Any]) -> dict[str, Any]:
    """The fastest build at batch 32 within the default budget, by its figures on validation."""
    able = [point for point in found["points"] if point["drop"] <= 0.03]
    best = max(able, key=lambda point: point["speedup"]["32"])
    return {
        "arch": "small MobileNetV2, 32x32",
        "speedup_b1": best["speedup"]["1"],
        "speedup_b32": best["speedup"]["32"],
        "drop": best["drop"],
        "size_ratio": best["size_ratio"],
        "recipe": f"{best['label']} on {best['target']}",
        "minutes": round(found["minutes"], 1),
    }
