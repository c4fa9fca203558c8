"""Which step of a candidate bought what, and what it cost: the candidates it was made from, as they were measured.

A candidate's lineage names the steps; every beginning of it is a candidate too. Those that a release made have a child
run in MLflow with their figures, measured on validation; steps that were never a candidate of their own (pruned and not
yet distilled) are told together with the next.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from mlflow import MlflowClient
from mlflow.entities import Run

from trimtab.candidate import Candidate
from trimtab.errors import RegistryError
from trimtab.registry.connection import PARENT_RUN, mlflow_errors
from trimtab.task import Metric

CANDIDATE = "trimtab.candidate"
PAGE = 1000  # runs a request; a release has one a build
METRICS: tuple[Metric, ...] = get_args(Metric)
NAMED = 12  # candidates named when the one asked for is not there


@dataclass(frozen=True)
class Stage:
    """A candidate on the way.

    Attributes:
        added: labels of the steps since the stage before ("original" for the first).
        accuracy: on validation; None where the candidate itself was not measured. Where another metric decides, that.
        metric: what the release was judged by.
        speedup: batch size → times as fast as the eager original. size_ratio: times smaller than its FP32 weights.
    """

    candidate: str
    added: str
    accuracy: float | None
    speedup: dict[str, float]
    size_ratio: float | None
    metric: Metric = "accuracy"

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe; another metric than accuracy is under its own name."""
        plain = asdict(self)
        metric = plain.pop("metric")
        return plain if metric == "accuracy" else {**plain, metric: plain.pop("accuracy")}


def explain(client: MlflowClient, store: Path, name: str, wanted: str, target: str | None) -> tuple[str, list[Stage]]:
    """The way to a candidate, from the original on.

    Args:
        store: folder of candidates (`Settings.store`).
        name: of the recipe: its experiment in MLflow.
        wanted: the candidate's id, the beginning of one, or its label, e.g. "prune-l1-0.5 distil"; the newest counts.
        target: the runtime; None: the one on which it is fastest.

    Returns:
        The target, and the stages.

    Raises:
        RegistryError: there is no such candidate; some that there are are named.
    """
    runs = _children(client, name)
    found = _matching(runs, wanted, target)
    if not found:
        known = list(dict.fromkeys(_label(run) for run in runs if target in (None, _target(run))))
        raise RegistryError(
            f"no candidate {wanted!r}" + (f" on {target}" if target else ""),
            where=f"experiment {name}",
            fix=f"give an id or a label: {', '.join(known[:NAMED]) or 'there is none yet; run a release'}",
        )
    parent = found[0].data.tags.get(PARENT_RUN)
    run = max((run for run in found if run.data.tags.get(PARENT_RUN) == parent), key=_first_speedup)
    siblings = [other for other in runs if other.data.tags.get(PARENT_RUN) == parent and _target(other) == _target(run)]
    return _target(run), _stages(_record(store, run.data.tags[CANDIDATE]), siblings)


def _children(client: MlflowClient, name: str) -> list[Run]:
    with mlflow_errors(f"experiment {name}"):
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            return []
        return list(
            client.search_runs(
                [experiment.experiment_id],
                f"tags.`{CANDIDATE}` LIKE '%'",
                max_results=PAGE,
                order_by=["attributes.start_time DESC"],
            )
        )


def _matching(runs: Sequence[Run], wanted: str, target: str | None) -> list[Run]:
    on_target = [run for run in runs if target in (None, _target(run))]
    return [run for run in on_target if _label(run) == wanted or run.data.tags[CANDIDATE].startswith(wanted)]


def _stages(candidate: Candidate, siblings: Sequence[Run]) -> list[Stage]:
    measured = {run.data.tags[CANDIDATE]: run for run in siblings}
    trained = sum(step.method == "train" for step in candidate.lineage)
    stages: list[Stage] = []
    words: list[str] = []
    for end in range(trained, len(candidate.lineage) + 1):
        part = Candidate(candidate.lineage[:end], candidate.inputs)
        if words and candidate.lineage[end - 1].method == candidate.lineage[end - 2].method:
            words.pop()  # of several rungs of training the last one names them all
        words += [part.label.split(" ")[-1]] if end > trained else []
        run = measured.get(part.id)
        if run is None and end < len(candidate.lineage):
            continue  # e.g. pruned and not yet distilled: never a candidate of its own
        stages.append(_stage(part.id, " ".join(words) or "original", run))
        words = []
    return stages


def _stage(candidate: str, added: str, run: Run | None) -> Stage:
    metrics = run.data.metrics if run else {}
    speedup = {key.removeprefix("speedup_b"): value for key, value in metrics.items() if key.startswith("speedup_b")}
    ordered = dict(sorted(speedup.items(), key=lambda item: int(item[0])))
    metric = next((word for word in METRICS if f"validation_{word}" in metrics), METRICS[0])
    figure = metrics.get(f"validation_{metric}")
    return Stage(candidate, added, figure, ordered, metrics.get("size_ratio"), metric)


def _record(store: Path, candidate: str) -> Candidate:
    path = store / f"{candidate}.json"
    try:
        return Candidate.from_json(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RegistryError(
            f"its record cannot be read: {error}", where=str(path), fix="run the release again: it is made again"
        ) from None


def _label(run: Run) -> str:
    return str(run.info.run_name).removesuffix(f" on {_target(run)}")


def _target(run: Run) -> str:
    return str(run.data.params.get("target", ""))


def _first_speedup(run: Run) -> float:
    speedups = {key: value for key, value in run.data.metrics.items() if key.startswith("speedup_b")}
    return speedups[min(speedups, key=lambda key: int(key.removeprefix("speedup_b")))] if speedups else 0.0
