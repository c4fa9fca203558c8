"""`mlflow deployments -t trimtab` and `trimtab score` against real servers and real scoring services."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forked import Forks
from mlflow.exceptions import MlflowException
from test_serving_process import write_release

from deployments.environment import PACKAGE_ROOT, environment
from deployments.mlflow_plugin import TrimtabDeploymentClient
from deployments.stack import down, up
from deployments.stack.leftovers import servers
from deployments.stack.ports import HOST, Ports
from deployments.stack.record import write_ports
from trimtab import runtime
from trimtab.journal.reader import end, window
from trimtab.ledger import Ledger
from trimtab.registry.connection import BATCH_KEY, Registry
from trimtab.registry.promote import promote
from trimtab.registry.promotions import read_log
from trimtab.registry.register import Submission, register
from trimtab.registry.tracking import Tracking
from trimtab.settings import Settings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
NAME = "tiny"
PATIENCE_S = 120.0
LARGE = 150_000  # rows: more than two parts of a batch
PROGRAMS = ("mlflow.cli", "mlflow.deployments.cli", "deployments.mlflow_plugin", "deployments.cli.main", "flows.score")


@dataclass
class World:
    """A stack with three registered versions of a linear model of 1x4x4 images; version 1 is the champion."""

    home: Path
    folder: Path
    forks: Forks | None = None

    @property
    def settings(self) -> Settings:
        return Settings.load(self.home)

    @property
    def around(self) -> dict[str, str]:
        ours = environment(self.settings)
        path = os.pathsep.join([str(self.folder / "plugin"), str(PACKAGE_ROOT)])
        return {**os.environ, **ours, "PYTHONPATH": path, "MLFLOW_DISABLE_TELEMETRY": "true", "COLUMNS": "200"}

    def said(self, command: str, *arguments: str, cold: bool = False) -> str:
        """What MLflow's own command line prints; cold: in a process that imports everything itself."""
        line = ["mlflow", "deployments", command, "-t", "trimtab", *arguments]
        done = self.cold(*line) if cold else self.ran(*line)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def cold(self, *line: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", *line]
        return subprocess.run(command, capture_output=True, text=True, env=self.around, cwd=self.folder, check=False)

    def ran(self, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        assert self.forks is not None
        return self.forks.run(module, *arguments, cwd=self.folder)

    @property
    def client(self) -> TrimtabDeploymentClient:
        """The same without a command line, which takes seconds to start."""
        return TrimtabDeploymentClient(f"trimtab:{self.home}")

    def score(self, *arguments: str) -> list[str]:
        return ["deployments.cli", "score", NAME, *arguments, "--json", "--home", str(self.home)]

    def scored(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        done = self.ran(*self.score(*arguments))
        assert "Traceback" not in done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout.splitlines()[-1])

    def answered(self, name: str, rows: np.ndarray) -> tuple[np.ndarray, str]:
        got = httpx.post(f"{self.settings.scoring[name]}/invocations", json={"inputs": rows.tolist()}, trust_env=False)
        assert got.status_code == 200, got.text
        return np.array(got.json()["predictions"]["probabilities"]), got.headers["x-trimtab-version"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("clients")
    world = World(folder / "home", folder)
    _install(folder / "plugin" / "trimtab_here-0.dist-info")
    try:
        write_ports(Settings(home=world.home), _unusual_ports())
        settings = up(Settings(home=world.home), wait_for_all=False).settings
        registry, tracking = Registry.from_settings(settings), Tracking(settings.tracking_uri(), settings.locks)
        run = tracking.start_release_run(tracking.experiment(NAME), "made by a test", "release", {}, {})
        for seed in (1, 2, 3):
            assert register(registry, _submission(write_release(folder / f"release-{seed}", seed), run)) == seed
        promote(registry, NAME, 1, who="test", why="the first")
        with contextlib.closing(Forks(PROGRAMS, world.around)) as world.forks:
            yield world
    finally:
        try:
            down(Settings(home=world.home))
        finally:
            for process in servers(Settings(home=world.home)):
                process.kill()


def _unusual_ports() -> Ports:
    """Free ones, none of which another stack on this machine would like to have."""
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(4)]
        return Ports(*(server.getsockname()[1] for server in taken))


def _install(metadata: Path) -> None:
    """What pip would write of pyproject.toml's entry points, where Python looks for them."""
    metadata.mkdir(parents=True)
    written = tomllib.loads((PACKAGE_ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    lines = [f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in entries.items()) for group, entries in written.items()]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: trimtab-here\nVersion: 0\n")


def _submission(folder: Path, run: str) -> Submission:
    return Submission(
        folder=folder,
        loader_source=runtime.bundle("onnxruntime-cpu"),
        requirements=runtime.requirements("onnxruntime-cpu"),
        run_id=run,
        description="made by a test",
        tags={},
        decision={"answer": "pass"},
    )


def rows_of(count: int) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(count, 1, 4, 4)).astype(np.float32)


def wait_for(what: str, seen: Any) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if seen():
            return
        time.sleep(0.02)
    raise AssertionError(f"not within {PATIENCE_S:.0f} s: {what}")


@pytest.fixture(scope="module")
def deployed(world: World) -> World:
    """The release's own service, made by MLflow's command line."""
    said = world.said("create", "--name", NAME, "-m", f"models:/{NAME}@champion")
    assert f"python_function deployment {NAME} is created" in said
    return world


def test_help_says_what_is_managed(world: World) -> None:
    assert "scoring services that one supervisor runs" in world.said("help", cold=True)


def test_a_deployment_answers_and_explains_through_mlflows_command_line(deployed: World) -> None:
    rows = rows_of(2)
    (deployed.folder / "rows.json").write_text(json.dumps({"input": rows.reshape(2, 16).tolist()}))
    payload = ("--name", NAME, "-I", str(deployed.folder / "rows.json"))

    assert NAME in deployed.said("list")
    assert "version: 1" in deployed.said("get", "--name", NAME)
    predicted = json.loads(deployed.said("predict", *payload).strip().splitlines()[-1])
    expected, version = deployed.answered(NAME, rows)
    np.testing.assert_allclose(predicted["predictions"]["probabilities"], expected)
    assert predicted["version"] == version == "1"

    time.sleep(1)  # what was answered is synced
    before = end(deployed.settings.journal / NAME)
    explained = json.loads(deployed.said("explain", *payload).strip().splitlines()[-1])
    assert np.shape(explained["attributions"]) == (2, 16)
    assert explained["decided"] == expected.argmax(axis=1).tolist()
    time.sleep(1)
    assert end(deployed.settings.journal / NAME) == before  # nothing of it reached the service


def test_another_name_serves_another_version_beside_it_until_it_is_deleted(deployed: World) -> None:
    deployed.said("create", "--name", "trial", "-m", f"models:/{NAME}/2")
    assert deployed.answered("trial", rows_of(1))[1] == "2"
    assert deployed.answered(NAME, rows_of(1))[1] == "1"
    with pytest.raises(MlflowException, match="is deployed already"):
        deployed.client.create_deployment("trial", f"models:/{NAME}/2")

    deployed.said("update", "--name", "trial", "-m", f"models:/{NAME}/3")
    assert deployed.answered("trial", rows_of(1))[1] == "3"
    wait_for("both answers in the journal", lambda: end(deployed.settings.journal / "trial") == 2)
    url = deployed.settings.scoring["trial"]

    deployed.said("delete", "--name", "trial")
    assert "trial" not in deployed.settings.scoring
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/ping", trust_env=False)
    deployed.client.delete_deployment("trial")
    assert deployed.answered(NAME, rows_of(1))[1] == "1"
    with pytest.raises(MlflowException, match="no such deployment"):
        deployed.client.get_deployment("trial")


def test_a_version_that_does_not_exist_starts_nothing(deployed: World) -> None:
    with pytest.raises(MlflowException, match="99"):
        deployed.client.create_deployment("other", f"models:/{NAME}/99")
    assert "other" not in [one["name"] for one in deployed.client.list_deployments()]


def parquet(path: Path, count: int) -> tuple[Path, np.ndarray]:
    rows = rows_of(count)
    cells = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 16)
    pq.write_table(pa.table({"id": np.arange(count), "input": cells}), path, row_group_size=50_000)
    return path, rows


def test_a_batch_answers_as_the_service_does_and_is_seen_in_mlflow_and_prefect(deployed: World) -> None:
    source, rows = parquet(deployed.folder / "small.parquet", 100)
    output = deployed.folder / "small-scores.parquet"

    code, summary = deployed.scored("--input", str(source), "--output", str(output), "--key", "id")

    assert (code, summary["rows"], summary["bad"]) == (0, 100, 0), summary
    found = pq.read_table(output).to_pydict()
    expected, version = deployed.answered(NAME, rows)
    assert found["id"] == list(range(100))
    assert set(found["version"]) == {version}
    np.testing.assert_allclose(np.array(found["probabilities"]), expected, atol=1e-6)
    run = Tracking(deployed.settings.tracking_uri(), deployed.settings.locks).client.get_run(summary["run_id"])
    assert (run.info.status, run.data.metrics["rows"]) == ("FINISHED", 100)
    assert BATCH_KEY in run.data.tags
    flow_run = httpx.get(
        f"{deployed.settings.prefect_api_url}/flow_runs/{run.data.tags['trimtab.flow_run']}", trust_env=False
    ).json()
    assert (flow_run["name"], flow_run["state"]["type"]) == (f"score {NAME}@champion", "COMPLETED")


def test_rows_reach_the_journal_through_the_service_that_holds_it(deployed: World) -> None:
    source, _ = parquet(deployed.folder / "watched.parquet", 60)
    output = deployed.folder / "watched-scores.parquet"
    journal = deployed.settings.journal / NAME
    before = end(journal)

    code, told = deployed.scored("--input", str(source), "--output", str(output), "--journal")
    assert (code, told["error"]) == (8, "Conflict")
    assert "--through-service" in told["fix"]
    code, summary = deployed.scored("--input", str(source), "--output", str(output), "--through-service", "--restart")

    assert (code, summary["rows"]) == (0, 60), summary
    wait_for("the rows in the journal", lambda: end(journal) == before + 60)
    kept = window(journal, before, end(journal))
    assert kept.request_id.tolist() == pq.read_table(output)["request_id"].to_pylist()


def test_a_batch_that_was_killed_goes_on_in_its_own_run(deployed: World) -> None:
    source, _ = parquet(deployed.folder / "large.parquet", LARGE)
    output = deployed.folder / "large-scores.parquet"
    arguments = ("--input", str(source), "--output", str(output), "--key", "id", "--batch-rows", "16")
    manifest = deployed.folder / f".{output.name}.scoring" / "manifest.json"
    with (deployed.folder / "killed.log").open("w") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", *deployed.score(*arguments)], stdout=log, stderr=log, env=deployed.around
        )
        try:
            wait_for("the first part", lambda: manifest.exists() or child.poll() is not None)
        finally:
            child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL, (deployed.folder / "killed.log").read_text()
    assert not output.exists()

    code, summary = deployed.scored(*arguments)

    assert (code, summary["rows"]) == (0, LARGE), summary
    assert summary["resumed"] >= 65_536
    assert pq.read_table(output)["id"].to_pylist() == list(range(LARGE))
    client = Tracking(deployed.settings.tracking_uri(), deployed.settings.locks).client
    run = client.get_run(summary["run_id"])
    same = client.search_runs([run.info.experiment_id], f"tags.`{BATCH_KEY}` = '{run.data.tags[BATCH_KEY]}'")
    assert [one.info.status for one in same] == ["FINISHED"]
    states = {"flow_runs": {"state": {"type": {"any_": ["CRASHED"]}}}, "limit": 50}
    crashed = httpx.post(f"{deployed.settings.prefect_api_url}/flow_runs/filter", json=states, trust_env=False).json()
    assert [one["parameters"]["output"] for one in crashed] == [str(output)]


def test_updating_the_releases_own_service_promotes_with_the_reason(deployed: World) -> None:
    deployed.said("update", "--name", NAME, "-m", f"models:/{NAME}/2", "-C", "why=agreed with the product owner")

    assert deployed.answered(NAME, rows_of(1))[1] == "2"
    log = read_log(Ledger(deployed.settings.ledger), NAME)
    assert (log.champion, log.done[-1].why) == (2, "agreed with the product owner")


def test_run_local_serves_in_the_foreground_and_ends_with_its_command(deployed: World) -> None:
    line = [sys.executable, "-m", "mlflow", "deployments", "run-local", "-t", "trimtab", "--name", "alone"]
    with (deployed.folder / "local.log").open("w+") as log:
        child = subprocess.Popen(
            [*line, "-m", f"models:/{NAME}/3", "-C", "port=0"], stdout=log, stderr=log, env=deployed.around
        )
        try:
            read = (deployed.folder / "local.log").read_text
            wait_for("its address", lambda: " on http://" in read() or child.poll() is not None)
            address = read().split(" on ")[1].split('"')[0]
            wait_for("version 3", lambda: httpx.get(f"{address}/version", trust_env=False).json()["version"] == "3")
            child.send_signal(signal.SIGTERM)
            child.wait(60)
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"{address}/ping", trust_env=False)
        finally:
            child.kill()
