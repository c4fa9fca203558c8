"""A release whose original is searched for: the trials, what was chosen, what serves; and the same once more."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import httpx
import mlflow
import pytest
from e2e_world import INT8, World

from trimtab.watch import Watch

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

TRIALS = 4
SEARCH = f"""
  search:
    trials: {TRIALS}
    objective: metric_and_latency
    space:
      train.lr: {{low: 0.001, high: 0.03, log: true}}
      model.kwargs.width: {{choices: [16, 64]}}
"""


def test_what_was_searched_for_is_trained_once_registered_and_served(world: World) -> None:
    recipe = world.recipe("chosen", seed=3, compress=INT8)
    text = recipe.read_text()
    line = next(line for line in text.splitlines() if line.startswith("train: "))
    settings = "".join(f"\n  {part.strip()}" for part in line[len("train: {") : -1].split(","))
    recipe.write_text(text.replace(line, f"train:{settings}{SEARCH}".rstrip()))
    world.trimtab("up", recipe)
    done = world.trimtab("release", recipe)
    assert done["version"] == 1

    mlflow.set_tracking_uri(world.settings.mlflow_tracking_uri)
    trials = list(csv.DictReader(io.StringIO(mlflow.artifacts.load_text(f"runs:/{done['run_id']}/search/trials.csv"))))
    assert len(trials) == TRIALS
    chosen = json.loads(mlflow.get_run(done["run_id"]).data.tags["trimtab.searched"])
    assert set(chosen) == {"train.lr", "model.kwargs.width"}
    [marked] = [trial for trial in trials if trial["chosen"] == "True"]
    assert float(marked["train.lr"]) == pytest.approx(chosen["train.lr"], rel=1e-3)
    assert int(marked["model.kwargs.width"]) == chosen["model.kwargs.width"]

    original = Watch(recipe, world.settings).release_facts(1)["original"]
    [step] = json.loads((world.home / "store" / f"{original}.json").read_text())["lineage"]
    assert step["parameters"]["lr"] == chosen["train.lr"]
    assert step["parameters"]["model_kwargs"] == {"width": chosen["model.kwargs.width"]}

    answer = httpx.post(f"{world.settings.scoring['chosen']}/invocations", json={"instances": [[2.0, 0.0, 0.0, 0.0]]})
    assert answer.status_code == 200, answer.text
    assert answer.headers["X-Trimtab-Version"] == "1"
    made: dict[Path, int] = {path: path.stat().st_mtime_ns for path in (world.home / "store").glob("*.json")}
    assert made
    assert world.trimtab("release", recipe)["version"] == 1
    assert {path: path.stat().st_mtime_ns for path in (world.home / "store").glob("*.json")} == made
