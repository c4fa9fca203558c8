"""Opens what a release works with, and its run in MLflow: one parent a release, found again after a kill."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from tasks.naming import untagged
from trimtab.candidate import Step, digest_of
from trimtab.monitoring.door import check_watch
from trimtab.recipe.schema import Target
from trimtab.registry.author import author
from trimtab.registry.follow import current_champion
from trimtab.settings import Settings
from trimtab.watch import Watch
from trimtab.workbench import Workbench

if TYPE_CHECKING:
    from trimtab.compress.search.record import SearchRecord  # brings Optuna and torch, which monitoring needs not
    from trimtab.registry.connection import Registry
    from trimtab.registry.tracking import Tracking

AS_ML = "?workflowType=machine_learning"  # MLflow 3 opens an experiment as one of generative AI otherwise
CONTEXTS = {"train": "training"}  # MLflow's word for what a split is used for, where it is not the split's name


@dataclass
class ReleaseRun:
    """A release in progress.

    Attributes:
        run_id: MLflow parent run.
        key: what identifies the release: recipe, data, code and the verdict that caused it.
        champion: version that serves at the start, or None.
        before: on a retrain, the champion's original candidate; its searched settings are taken over, and its weights
            where the recipe says so.
        kept: on a recompression, the champion's original candidate; it is compressed as it is.
        finalists: on a retrain, the steps of what reached the gate when the champion was made.
        targets: what candidates are converted to: the recipe's; on a retrain those of them that reached the gate.
        search: what the search found, for the report; None before it, and where there is none.
        unwanted: (precision, target) that the search measured to be not worth converting to.
    """

    bench: Workbench
    tracking: Tracking
    registry: Registry
    run_id: str
    key: str
    reason: str
    champion: int | None
    before: str | None = None
    kept: str | None = None
    finalists: Sequence[Sequence[Step]] = ()
    targets: Sequence[Target] = ()
    search: SearchRecord | None = None
    unwanted: Collection[tuple[str, str]] = ()

    def summary(self, version: int, serving: int, figures: Mapping[str, Any]) -> dict[str, Any]:
        """What the flow returns: the version, what serves (another one while it is tried), figures, where time went."""
        return {
            "name": self.bench.recipe.name,
            "version": version,
            "serving": serving,
            "run_id": self.run_id,
            "run_name": self.tracking.client.get_run(self.run_id).info.run_name,
            "run_url": self.link(),
            "reason": self.reason,
            "seconds": dict(self.bench.stopwatch.seconds),
            **figures,
        }

    def done(self) -> dict[str, Any] | None:
        """The summary of an earlier run of this very release, if its version is the champion: nothing is left to do."""
        if self.champion is None:
            return None
        facts = _champion_facts(self.bench, self.champion)
        if facts.get("release") != self.key:
            return None
        get_run_logger().info("version %d is this release already: nothing to do", self.champion)
        return self.summary(self.champion, self.champion, {**facts["figures"], "report_url": None})

    def link(self) -> str:
        """Address of the parent run in the MLflow UI."""
        experiment = self.tracking.client.get_run(self.run_id).info.experiment_id
        return f"{self.tracking.tracking_uri}/#/experiments/{experiment}/runs/{self.run_id}{AS_ML}"


def open_bench(recipe: str, home: str, retrain_verdict: str | None, recompress_verdict: str | None = None) -> Workbench:
    """The bench of a recipe; with a verdict, the labelled rows of its window join the training data.

    With one to recompress for, those join that the champion was trained on, so that it is compared on the same data.
    """
    import torch  # noqa: F401  (now, not when the user's code asks for it: their folder leads sys.path then)

    settings = Settings.load(Path(home)).ensure_home()
    watch = Watch(recipe, settings)
    recompress, rows_of = None, retrain_verdict
    if recompress_verdict is not None:
        recompress, rows_of = watch.recompression(recompress_verdict)
    new_rows = watch.new_rows(rows_of) if rows_of else None
    bench = Workbench(recipe, settings, new_rows, recompress)
    rows = {name: len(split) for name, split in bench.splits.items()}
    what = f"{bench.outputs} {'numbers a row' if bench.task.regression else 'classes'}"
    get_run_logger().info("data: %s; %s", rows, what)
    check_watch(bench.code, bench.splits["gate"].inputs, bench.outputs)
    if bench.slices:
        sizes = {name: int(mask.sum()) for name, mask in bench.slices.items()}
        get_run_logger().info("slices of the gate, besides the classes: %s", sizes)
    return bench


def release_key(bench: Workbench) -> str:
    """What identifies a release: recipe, data, code and the verdict that caused it."""
    return digest_of([bench.key, bench.new_rows.verdict if bench.new_rows else None])[:32]


@contextmanager
def release_run(bench: Workbench, reason: str) -> Iterator[ReleaseRun]:
    """The MLflow parent run of this release, RUNNING inside the block, ended as the block ends."""
    # MLflow takes two seconds to import, and to deploy the flow nothing of it is needed.
    from trimtab.registry.connection import Registry
    from trimtab.registry.sweep import sweep
    from trimtab.registry.tracking import Tracking

    settings, name = bench.settings, bench.recipe.name
    tracking = Tracking(settings.tracking_uri(), settings.locks)
    registry = Registry.from_settings(settings)
    experiment = tracking.experiment(name)
    key = release_key(bench)
    for line in sweep(registry, experiment, name, alive={key}):
        get_run_logger().warning("registry: %s", line)
    champion = current_champion(settings.tracking_uri(), name)
    kind = (
        "recompress"
        if bench.recompress
        else "retrain"
        if bench.new_rows
        else "first release"
        if champion is None
        else "release"
    )
    run_id = tracking.start_release_run(experiment, key, f"{kind} {key[:8]}", _params(bench), _tags(bench, reason))
    for split, data in bench.splits.items():
        tracking.log_dataset_input(
            run_id,
            f"{name}/{split}",
            data.digest,
            context=CONTEXTS.get(split, split),
            source=bench.recipe.data,
            profile={"rows": len(data)},
        )
    run = ReleaseRun(bench, tracking, registry, run_id, key, reason, champion, **_from_champion(bench, champion))
    try:
        with tracking.system_metrics(run_id), untagged():
            yield run
    except BaseException:
        tracking.finish(run_id, "FAILED")
        raise
    tracking.finish(run_id)


def _tags(bench: Workbench, reason: str) -> dict[str, str]:
    """Tags of the run: MLflow's own for who and what made it, and ours; without empty ones."""
    path = bench.code.path
    tags = {
        "mlflow.user": author(),
        "mlflow.source.name": f"{path.parent.name}/{path.name}",
        "mlflow.source.type": "LOCAL",
        "trimtab.reason": reason,
        "trimtab.flow_run": flow_run.get_id(),
        "trimtab.verdict": bench.new_rows.verdict if bench.new_rows else None,
        "trimtab.recompressed": bench.recompress.verdict if bench.recompress else None,
    }
    return {key: str(value) for key, value in tags.items() if value}


def _params(bench: Workbench) -> dict[str, Any]:
    """The recipe, flat, as MLflow params."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}{key}.", inner)
        else:
            flat[prefix.rstrip(".")] = json.dumps(value) if isinstance(value, list) else value

    walk("", bench.recipe.model_dump(mode="json"))
    return flat


def _from_champion(bench: Workbench, champion: int | None) -> dict[str, Any]:
    """What a retrain takes over from the champion: its original candidate, and what reached the gate with it where."""
    targets = bench.recipe.targets
    if bench.recompress is not None and champion is not None:
        return {"targets": targets, "kept": _champion_facts(bench, champion)["original"]}
    if bench.new_rows is None or champion is None:
        return {"targets": targets}
    facts = _champion_facts(bench, champion)
    return {
        "before": facts["original"],
        "finalists": [[Step(**step) for step in steps] for steps in facts["finalists"]],
        # Which runtime is fast does not depend on the weights either; one the recipe has dropped is not brought back.
        "targets": [target for target in targets if target in facts.get("finalist_targets", [])] or targets,
    }


def _champion_facts(bench: Workbench, champion: int) -> dict[str, Any]:
    """release.json of the version that serves."""
    return Watch(bench.code.path, bench.settings).release_facts(champion)
