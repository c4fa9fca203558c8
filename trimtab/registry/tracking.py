"""MLflow tracking as its users expect it: one experiment a recipe, a parent run a release, a child run a candidate.

Runs are found by tag and made only if absent, so a release that was killed goes on in its own run. MLflow's tag keys
are not unique; get-or-create therefore happens under an OS lock. Everything goes through one client: MLflow's fluent
functions share a global "active run" between threads.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from trimtab.candidate import digest_of
from trimtab.errors import RegistryError
from trimtab.registry.comparison import ABSENT
from trimtab.registry.connection import BATCH_KEY, CANDIDATE_KEY, PARENT_RUN, RELEASE_KEY, mlflow_client, mlflow_errors
from trimtab.store import os_lock

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BATCH = 100  # params a request (MLflow's limit); metrics and tags are far below theirs
SAMPLING_INTERVAL_S = 5
# MLflow 3's page asks "GenAI or model training?" of an experiment without it; the page's source names both values.
EXPERIMENT_KIND = {"mlflow.experimentKind": "custom_model_development"}


class Tracking:
    """Runs of releases on one MLflow server. Thread-safe.

    Args:
        tracking_uri: address of the server.
        locks: folder of lock files.
    """

    def __init__(self, tracking_uri: str, locks: Path) -> None:
        self.tracking_uri, self.locks = tracking_uri, locks
        self.client = mlflow_client(tracking_uri)
        self._experiment_of = functools.lru_cache(maxsize=16)(self._read_experiment)

    def experiment(self, name: str) -> str:
        """Id of the experiment, made if absent; two callers at once get the same one.

        Raises:
            RegistryError: it was deleted (its name stays taken in MLflow), or MLflow does not answer.
        """
        with mlflow_errors(f"experiment {name}"):
            found = self.client.get_experiment_by_name(name)
            if found is None:
                try:
                    return str(self.client.create_experiment(name, tags=EXPERIMENT_KIND))
                except MlflowException as error:
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
                found = self.client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage != "active":
            raise RegistryError(
                "was deleted in MLflow, which keeps its name taken",
                where=f"experiment {name}",
                fix="restore it (mlflow experiments restore), or give the recipe another name",
            )
        return str(found.experiment_id)

    def start_release_run(
        self,
        experiment: str,
        release_key: str,
        run_name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
    ) -> str:
        """Id of the release's parent run, RUNNING: made, or taken up again after a kill.

        Args:
            experiment: experiment id.
            release_key: what identifies the release, e.g. the digest of recipe, code and data.
        """
        return self._start(experiment, RELEASE_KEY, release_key, run_name, params, tags)

    def start_batch_run(
        self, experiment: str, batch_key: str, run_name: str, params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> str:
        """Id of the run of a batch that is scored, RUNNING: made, or taken up again after a kill.

        Args:
            batch_key: what identifies the batch, its output included.
        """
        return self._start(experiment, BATCH_KEY, batch_key, run_name, params, tags)

    def _start(
        self, experiment: str, tag: str, key: str, run_name: str, params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> str:
        wanted = {**tags, tag: key}
        with mlflow_errors(f"run {run_name}"), self._lock(experiment, key):
            run = self._find(experiment, f"tags.`{tag}` = '{_quotable(key)}'")
            if run is None:
                run = self.client.create_run(experiment, tags=wanted, run_name=run_name)
            elif run.info.status != "RUNNING":
                self.client.update_run(run.info.run_id, status="RUNNING")
            self._log(run, params, {}, wanted)
        return str(run.info.run_id)

    def release_run(self, experiment: str, release_key: str) -> str | None:
        """Id of the parent run of a release that was started; None if there is none."""
        with mlflow_errors(f"release {release_key}"):
            run = self._find(experiment, f"tags.`{RELEASE_KEY}` = '{_quotable(release_key)}'")
        return None if run is None else str(run.info.run_id)

    def child_run(
        self,
        parent_id: str,
        candidate_key: str,
        name: str,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
    ) -> str:
        """Id of a candidate's finished child run; made, or completed if an earlier call was killed half-way.

        Args:
            params: every knob, under the same keys in every child (see `comparison.knobs`).
            metrics: every objective, under the same keys in every child; finite numbers.
        """
        wanted = {**tags, CANDIDATE_KEY: candidate_key, PARENT_RUN: parent_id}
        with mlflow_errors(f"run {name}"), self._lock(parent_id, candidate_key):
            experiment = self._experiment_of(parent_id)
            query = f"tags.`{PARENT_RUN}` = '{parent_id}' AND tags.`{CANDIDATE_KEY}` = '{_quotable(candidate_key)}'"
            run = self._find(experiment, query)
            if run is None:
                run = self.client.create_run(experiment, tags=wanted, run_name=name)
            elif run.info.status == "FINISHED":
                return str(run.info.run_id)
            self._log(run, params, metrics, wanted)
            self.client.set_terminated(run.info.run_id, "FINISHED")
        return str(run.info.run_id)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Add metrics to a run in one request."""
        with mlflow_errors(f"run {run_id}"):
            self._log(self.client.get_run(run_id), {}, metrics, {})

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags on a run in one request."""
        with mlflow_errors(f"run {run_id}"):
            self.client.log_batch(run_id, tags=[RunTag(key, str(value)) for key, value in tags.items()])

    def log_figure(self, run_id: str, figure: Figure, artifact_file: str) -> None:
        """Store a matplotlib figure, e.g. under "plots/pareto.png"."""
        with mlflow_errors(f"run {run_id}"):
            self.client.log_figure(run_id, figure, artifact_file)

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        """Store a text file, e.g. a report under "report.html"."""
        with mlflow_errors(f"run {run_id}"):
            self.client.log_text(run_id, text, artifact_file)

    def log_artifact(self, run_id: str, path: Path, artifact_folder: str | None = None) -> None:
        """Store a file or folder."""
        with mlflow_errors(f"run {run_id}"):
            self.client.log_artifact(run_id, str(path), artifact_folder)

    def log_dataset_input(
        self, run_id: str, name: str, digest: str, *, context: str, source: str, profile: Mapping[str, Any]
    ) -> None:
        """Name a data set the run used.

        Args:
            name: e.g. "digits/train".
            digest: SHA-256 of the data; MLflow shows the first 36 characters.
            context: what it was used for: "training", "validation", "gate", …
            source: where it is from, e.g. the recipe's entry point "data:load".
            profile: JSON shown beside it, e.g. {"rows": 900}.
        """
        dataset = Dataset(name, digest[:36], "code", _json({"entry_point": source}), profile=_json(dict(profile)))
        with mlflow_errors(f"run {run_id}"):
            self.client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])

    def finish(self, run_id: str, status: str = "FINISHED") -> None:
        """End a run: FINISHED, FAILED or KILLED."""
        with mlflow_errors(f"run {run_id}"):
            self.client.set_terminated(run_id, status)

    @contextlib.contextmanager
    def system_metrics(self, run_id: str) -> Iterator[None]:
        """Log CPU, memory, disk and network of this machine to a run while the block runs.

        MLflow's own switch works only for its global active run, hence the monitor itself. Its thread stops by
        itself when the run is ended.
        """
        logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)  # it announces start and end
        with mlflow_errors(f"run {run_id}"):
            monitor = SystemMetricsMonitor(
                run_id, SAMPLING_INTERVAL_S, resume_logging=True, tracking_uri=self.tracking_uri
            )
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()

    def _read_experiment(self, run_id: str) -> str:
        return str(self.client.get_run(run_id).info.experiment_id)

    def _find(self, experiment: str, query: str) -> Run | None:
        runs = self.client.search_runs([experiment], query, max_results=1, order_by=["attributes.start_time ASC"])
        return runs[0] if runs else None

    def _log(self, run: Run, params: Mapping[str, Any], metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Log what the run does not have yet; a param logged before cannot take another value (MLflow refuses)."""
        now = time.time_ns() // 1_000_000
        if strange := [key for key, value in metrics.items() if not math.isfinite(value)]:
            raise RegistryError(f"metrics {strange} are not finite", where=f"run {run.info.run_id}")
        texts = {key: ABSENT if value is None else str(value) for key, value in params.items()}
        new = [Param(key, value) for key, value in texts.items() if run.data.params.get(key) != value]
        first = True
        for start in range(0, max(len(new), 1), BATCH):
            self.client.log_batch(
                run.info.run_id,
                metrics=[Metric(key, float(value), now, 0) for key, value in metrics.items()] if first else [],
                params=new[start : start + BATCH],
                tags=[RunTag(key, str(value)) for key, value in tags.items()] if first else [],
            )
            first = False

    @contextlib.contextmanager
    def _lock(self, scope: str, key: str) -> Iterator[None]:
        with os_lock(self.locks / f"run-{digest_of([scope, key])[:16]}.lock", wait=True, what=f"run {key}"):
            yield


def _quotable(value: str) -> str:
    if "'" in value or "`" in value:
        raise RegistryError(f"{value!r} has a quote, which MLflow's search cannot take", where="run key")
    return value


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)
