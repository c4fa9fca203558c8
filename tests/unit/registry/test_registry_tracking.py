"""What is written once, when an experiment or a registered model is made: MLflow's client is a recorder here."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS

from trimtab.registry import tracking
from trimtab.registry.register import Submission, _Registration

ACTIVE = SimpleNamespace(experiment_id="5", lifecycle_stage="active")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Mock:
    made = Mock()
    monkeypatch.setattr(tracking, "mlflow_client", lambda uri: made)
    return made


def test_a_new_experiment_is_of_the_model_training_kind(client: Mock, tmp_path: Path) -> None:
    client.get_experiment_by_name.return_value = None
    client.create_experiment.return_value = "7"
    assert tracking.Tracking("http://mlflow", tmp_path).experiment("digits") == "7"
    client.create_experiment.assert_called_once_with(
        "digits", tags={"mlflow.experimentKind": "custom_model_development"}
    )


def test_an_experiment_that_is_there_or_that_another_caller_just_made_is_taken(client: Mock, tmp_path: Path) -> None:
    client.get_experiment_by_name.return_value = ACTIVE
    assert tracking.Tracking("http://mlflow", tmp_path).experiment("digits") == "5"
    client.create_experiment.assert_not_called()
    client.get_experiment_by_name.side_effect = [None, ACTIVE]
    client.create_experiment.side_effect = MlflowException("there", RESOURCE_ALREADY_EXISTS)
    assert tracking.Tracking("http://mlflow", tmp_path).experiment("digits") == "5"


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"intended_use": "Reads digits.\n", "label": "int8"}, "Reads digits. Made by Trimtab."),
        ({"intended_use": ""}, "Made by Trimtab."),
        ({}, "Made by Trimtab."),
    ],
)
def test_a_registered_model_says_what_it_is_for(facts: dict[str, Any], said: str, tmp_path: Path) -> None:
    client = Mock()
    submission = Submission(tmp_path, "", [], "run", "", {}, {})
    registration = _Registration(Mock(client=client), submission, facts, "digits", "key")
    registration._ensure_registered_model()
    client.create_registered_model.assert_called_once_with("digits", description=said)
    client.create_registered_model.side_effect = MlflowException("there", RESOURCE_ALREADY_EXISTS)
    registration._ensure_registered_model()
