"""The way to a candidate: every beginning of its lineage that was measured in the same release, in order."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deployments.cli.explain import table
from trimtab.candidate import Candidate, InputsDigest, Step
from trimtab.errors import RegistryError
from trimtab.registry.explain import explain

INPUTS = InputsDigest("data", "none", "code", "versions")
TRAIN = Step("train", {"epochs": 1}, 0)
PRUNE = Step("prune", {"ratio": 0.5, "label": "prune-l1-0.5"})
DISTIL = Step("distil", {"label": "distil"}, 0)
INT8 = Step("quantize", {"label": "int8"})
WHOLE = Candidate((TRAIN, PRUNE, DISTIL, INT8), INPUTS)


def run(lineage: tuple[Step, ...], target: str, accuracy: float, speed: float, parent: str = "new") -> Any:
    candidate = Candidate(lineage, INPUTS)
    return SimpleNamespace(
        info=SimpleNamespace(run_name=f"{candidate.label} on {target}"),
        data=SimpleNamespace(
            tags={"trimtab.candidate": candidate.id, "mlflow.parentRunId": parent},
            params={"target": target},
            metrics={"validation_accuracy": accuracy, "speedup_b32": speed / 2, "speedup_b1": speed, "size_ratio": 2.0},
        ),
    )


class Client:
    """MLflow with these runs, newest first."""

    def __init__(self, runs: list[Any]) -> None:
        self.runs = runs

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id="1") if name == "digits" else None

    def search_runs(self, *_: Any, **__: Any) -> list[Any]:
        return self.runs


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / f"{WHOLE.id}.json").write_text(json.dumps({**asdict(WHOLE)}))
    return tmp_path


@pytest.fixture
def client() -> Any:
    return Client(
        [
            run((TRAIN,), "ort", 0.98, 5.0),
            run((TRAIN, PRUNE, DISTIL), "ort", 0.97, 9.0),
            run(WHOLE.lineage, "ort", 0.96, 10.0),
            run(WHOLE.lineage, "ov", 0.96, 2.0),
            run((TRAIN,), "ort", 0.5, 1.0, parent="old"),
        ]
    )


@pytest.mark.parametrize("wanted", [WHOLE.id, WHOLE.id[:6], "prune-l1-0.5 distil int8"])
def test_the_stages_are_the_measured_beginnings_on_the_fastest_target(client: Any, store: Path, wanted: str) -> None:
    target, stages = explain(client, store, "digits", wanted, None)

    assert target == "ort"
    assert [stage.added for stage in stages] == ["original", "prune-l1-0.5 distil", "int8"]
    assert [stage.accuracy for stage in stages] == [0.98, 0.97, 0.96]  # of the same release, not of an older one
    assert list(stages[0].speedup) == ["1", "32"]


def test_a_beginning_that_was_not_measured_is_left_out_and_the_end_says_so(client: Any, store: Path) -> None:
    _, stages = explain(client, store, "digits", WHOLE.id, "ov")

    assert [stage.added for stage in stages] == ["prune-l1-0.5 distil int8"]
    assert stages[0].accuracy == 0.96


def test_a_candidate_that_is_not_there_is_an_error_that_names_some_that_are(client: Any, store: Path) -> None:
    with pytest.raises(RegistryError, match=r"no candidate 'nothing'[\s\S]*prune-l1-0.5 distil int8"):
        explain(client, store, "digits", "nothing", None)
    with pytest.raises(RegistryError, match="run a release"):
        explain(client, store, "another", "nothing", None)


def test_the_table_shows_what_each_step_cost(client: Any, store: Path) -> None:
    _, stages = explain(client, store, "digits", WHOLE.id, None)

    cells = [list(column.cells) for column in table("digits on ort", stages).columns]

    assert cells[0] == ["original", "prune-l1-0.5 distil", "int8"]
    assert cells[2] == ["", "-1.00", "-1.00"]
    assert cells[3] == ["5.00x", "9.00x", "10.00x"]
