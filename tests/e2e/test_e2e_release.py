"""A release from the command line on the real servers: once, twice, at once, out of budget, killed in each stage."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2e_world import SEARCH, TRIAL, Released, World
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

STAGES = {
    "optimize": "data:",
    "compress": "training the original: done",
    "convert": "Task run 'compress int8' - Finished",
    "select": "Task run 'convert int8 to all targets' - Finished",
    "verify": "finalists:",
    "register": "accuracy on gate, against the original",
    "promote": "- Finished in state Completed",  # of the task register, see below
}


def versions_of(world: World, name: str) -> list[ModelVersion]:
    client = MlflowClient(world.settings.mlflow_tracking_uri, world.settings.mlflow_tracking_uri)
    return list(client.search_model_versions(f"name = '{name}'"))


def alias_of(world: World, name: str, alias: str = "champion") -> int:
    client = MlflowClient(world.settings.mlflow_tracking_uri, world.settings.mlflow_tracking_uri)
    return int(client.get_model_version_by_alias(name, alias).version)


def running(world: World, kind: str) -> list[dict[str, Any]]:
    body = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}, "flows": {"name": {"any_": [kind]}}}
    answer: list[dict[str, Any]] = httpx.post(
        f"{world.settings.prefect_api_url}/flow_runs/filter", json=body, timeout=30
    ).json()
    return answer


def test_a_release_is_registered_promoted_and_served_and_a_second_one_is_the_same_version(
    world: World, released: Released
):
    assert released.summary["version"] == 1
    assert httpx.get(f"{world.settings.scoring['once']}/version").json()["version"] == "1"
    [version] = versions_of(world, "once")
    assert version.current_stage == "Production"
    assert version.tags["trimtab.gate"] == "passed"
    assert "passed the gate" in version.description
    assert alias_of(world, "once") == 1
    assert set(released.answered) == {"1"}

    again = world.trimtab("release", world.recipe("once"))
    assert again["version"] == 1
    assert len(versions_of(world, "once")) == 1
    status = world.trimtab("status", "once")
    assert [p["why"] for p in status["releases"]["once"]["promotions"]] == ["the first"]

    experiment = MlflowClient(world.settings.mlflow_tracking_uri).get_experiment_by_name("once")
    assert experiment is not None
    runs = MlflowClient(world.settings.mlflow_tracking_uri).search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(parents) == 1
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(children) == 2
    assert len({tuple(sorted(run.data.params)) for run in children}) == 1
    assert all({"validation_accuracy", "speedup_b1", "size_ratio"} <= set(run.data.metrics) for run in children)


def test_two_releases_of_one_recipe_at_once_one_is_told(released: Released):
    assert released.refused["error"] == "Conflict"
    assert "already running" in released.refused["what"]


def test_a_budget_nobody_meets_registers_nothing_and_leaves_the_champion_serving(world: World, released: Released):
    recipe = world.recipe("once", min_speedup=1e6)
    answer = world.trimtab("release", recipe, expect=6)
    assert answer["error"] == "BudgetNotMet"
    assert "speed-up" in answer["what"]
    assert "min_speedup" in answer["what"]
    assert len(versions_of(world, "once")) == 1
    assert alias_of(world, "once") == 1
    assert httpx.get(f"{world.settings.scoring['once']}/version").json()["version"] == "1"


@pytest.mark.slow
def test_a_release_that_must_first_be_tried_is_the_challenger_until_traffic_has_shown_it(world: World):
    world.trimtab("up", world.recipe("tried"))
    world.trimtab("release", world.recipe("tried"))
    recipe = world.recipe("tried", seed=1, trial=TRIAL)
    world.trimtab("release", recipe)
    assert (alias_of(world, "tried"), alias_of(world, "tried", "challenger")) == (1, 2)
    url = world.settings.scoring["tried"]
    until(lambda: (httpx.get(f"{url}/version").json()["challenger"] or {}).get("version") == "2")
    refused = world.trimtab("promote", "tried", "2", "--why", "too early", expect=9)
    assert "has not shown against version 1 what serving.promotion asks for" in json.dumps(refused)
    assert alias_of(world, "tried") == 1

    assert set(world.send("tried")) == {"1"}  # shadows answer nobody
    until(lambda: not httpx.get(f"{url}/comparison").json()["promotion"]["missing"])
    world.trimtab("release", recipe)
    assert alias_of(world, "tried") == 2
    until(lambda: httpx.get(f"{url}/version").json()["version"] == "2")
    assert len(versions_of(world, "tried")) == 2  # the same version, released again


def until(found: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.slow
def test_killed_in_each_stage_the_next_run_finishes_and_nothing_is_done_twice_or_half(world: World):
    recipe = world.recipe("killed", seed=5)
    made: dict[Path, int] = {}
    for stage, mark in STAGES.items():
        kill_at(world, recipe, stage, mark)
        assert not any(v.current_stage == "Production" for v in versions_of(world, "killed")), stage
        for path in (world.home / "store").glob("*.json"):
            made.setdefault(path, path.stat().st_mtime_ns)
    done = world.trimtab("release", recipe)
    assert done["version"] == 1
    assert [int(v.version) for v in versions_of(world, "killed")] == [1]
    assert alias_of(world, "killed") == 1
    assert all(path.stat().st_mtime_ns == when for path, when in made.items())
    experiment = MlflowClient(world.settings.mlflow_tracking_uri).get_experiment_by_name("killed")
    assert experiment is not None
    runs = MlflowClient(world.settings.mlflow_tracking_uri).search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len([run for run in runs if "mlflow.parentRunId" not in run.data.tags]) == 1
    assert running(world, "release") == []  # the run that finished has told Prefect of those that were killed


@pytest.mark.slow
def test_a_search_killed_while_exploring_and_between_rungs_goes_on_and_makes_no_candidate_twice(world: World):
    recipe = world.recipe("searched", seed=11, compress=SEARCH, width=1024)
    made: dict[Path, int] = {}
    for stage, mark in {
        "explore": "measuring shapes: 1 of",
        "first rung": " epochs: prune-",
        "last": " int8: done",
    }.items():
        kill_at(world, recipe, stage, mark)
        for path in (world.home / "store").glob("*.json"):
            made.setdefault(path, path.stat().st_mtime_ns)
    done = world.trimtab("release", recipe)
    assert done["version"] == 1
    assert all(path.stat().st_mtime_ns == when for path, when in made.items())
    client = MlflowClient(world.settings.mlflow_tracking_uri)
    found = json.loads(Path(client.download_artifacts(done["run_id"], "search.json", str(world.project))).read_text())
    assert all(trial["measured"] for trial in found["trials"])
    assert len({json.dumps(trial["shape"]) for trial in found["trials"]}) == len(found["trials"])
    control = next(way for way in found["trained"] if way["shape"] == "control")
    assert sum(control["epochs"]) == 7
    experiment = client.get_run(done["run_id"]).info.experiment_id
    shapes = [run for run in client.search_runs([experiment]) if "trimtab.shape" in run.data.tags]
    epochs = [run.data.metrics["epochs"] for run in shapes if "epochs" in run.data.metrics]
    assert max(epochs) == 7
    explored = [run.data.tags["trimtab.shape"] for run in shapes if "epochs" not in run.data.metrics]
    assert len(explored) == len(set(explored)) == sum(trial["measured"] for trial in found["trials"])


def kill_at(world: World, recipe: Path, stage: str, mark: str) -> None:
    """Run a release and kill it -9 as soon as the line comes that says that the stage before has ended."""
    process = world.start("release", recipe)
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if mark in line and (stage != "promote" or "Task run 'register" in line):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return
    raise AssertionError(f"{stage}: never saw {mark!r} in\n{''.join(lines)}")
