"""The search where people look for it: a child run a shape in MLflow, `search.json`, and its picture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tasks.bench import ReleaseRun
from tasks.selection_record import LOGGERS
from trimtab.candidate import Candidate
from trimtab.compress.search.course import Way
from trimtab.compress.search.explore import Explored
from trimtab.compress.search.record import SearchRecord, won_by_target
from trimtab.registry.comparison import ABSENT
from trimtab.task import CLASSIFICATION, Task
from trimtab.verify import exploration


def record_shapes(run: ReleaseRun, record: SearchRecord, host: str) -> None:
    """A child run for each shape that was measured; those that the latency model spared are in `search.json` only.

    Args:
        host: it is told apart by it, so that a release gone on with on another host has its latencies too.
    """
    measured = [one for one in record.seen if one.measured is not None]
    with ThreadPoolExecutor(LOGGERS) as pool:
        list(pool.map(lambda one: _shape(run, one, host), measured))


def record_search(run: ReleaseRun, found: Mapping[str, Any], record: SearchRecord) -> None:
    """The whole search as artifacts of the release's run; the report shows the picture again."""
    run.search = record
    run.tracking.log_text(run.run_id, json.dumps({**found, "trained": record.trails()}, indent=1), "search.json")
    if record.seen:
        run.tracking.log_figure(run.run_id, exploration.figure(record), "plots/search.png")


def record_rung(run: ReleaseRun, candidate: Candidate, way: Way, score: float, task: Task = CLASSIFICATION) -> None:
    """What a rung left of a shape, as a child run in MLflow."""
    runner = way.runner
    run.tracking.child_run(
        run.run_id,
        f"{candidate.id}@rung",
        f"{candidate.label}, trained",
        {"methods": " ".join(step.method for step in candidate.lineage), "shape": runner.key},
        {
            f"validation_{task.metric}": -score if task.relative else score,
            "validation_drop": runner.drops[-1],
            "latency_before_training": runner.latency,
            "epochs": float(sum(runner.epochs)),
        },
        {"trimtab.shape": runner.key},
    )


def _shape(run: ReleaseRun, one: Explored, host: str) -> str:
    assert one.measured is not None
    won = won_by_target(one.measured)
    methods = " ".join(step.method for step in one.shape.steps(1, 0)) or ABSENT
    predicted = {} if one.predicted is None else {"latency_predicted": one.predicted}
    return run.tracking.child_run(
        run.run_id,
        f"{one.shape.key}@explored {host}",
        f"{one.shape.label}, explored",
        {
            "methods": methods,
            "shape": one.shape.key,
            **{f"precision.{target}": lane.precision for target, lane in won.items()},
        },
        {
            "divergence": one.probe.divergence,
            "latency_before_training": one.latency,
            **predicted,
            **{f"latency.{target}": lane.latency for target, lane in won.items()},
        },
        {"trimtab.shape": one.shape.key},
    )
