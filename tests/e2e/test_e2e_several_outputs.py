"""A model that returns logits and an embedding, and is judged by F1, from its recipe to what is served, journalled,
watched and scored."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import mlflow
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from e2e_world import CODE, World

from trimtab.journal.reader import end, window

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

NAMES = ["probabilities", "embedding"]
NET = """

class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 8))
        self.head = nn.Linear(8, 3)

    def forward(self, input):
        hidden = self.body(input)
        return {"head": {"logits": self.head(torch.relu(hidden))}, "hidden": (hidden, hidden * 2)}


def build(width=64):
    return Net(width)
"""
OUTPUTS = ', answer: head.logits, also: {embedding: "hidden.0"}}'


def prepared(world: World) -> Path:
    recipe = world.recipe("several", seed=7)
    (recipe.parent / "net.py").write_text(CODE.partition("\ndef build(")[0] + NET)
    text = recipe.read_text().replace("kwargs: {width: 64}}", f"kwargs: {{width: 64}}{OUTPUTS}")
    text = text.replace("max_disagreement: 0.1}", "max_disagreement: 0.1, max_output_difference: 0.2}")
    recipe.write_text(text + "metric: f1\n")
    return recipe


def traffic() -> np.ndarray:
    space: dict[str, Any] = {}
    exec(CODE, space)
    features: np.ndarray = space["rows"]("traffic")[0]
    return features


def test_a_model_with_two_outputs_is_released_served_journalled_watched_and_scored(world: World) -> None:
    recipe = prepared(world)
    world.trimtab("up", recipe)
    released = world.trimtab("release", recipe)
    assert released["version"] == 1
    assert "original" in released["f1"]
    stock = registered(world)
    assert set(world.send("several")) == {"1"}
    url, rows = world.settings.scoring["several"], traffic()
    served(url, rows, stock)
    journalled(world, rows, stock["probabilities"])
    assert world.trimtab("monitor", recipe)["verdict"] == "healthy"
    scored(world, rows, stock["probabilities"])


def registered(world: World) -> dict[str, np.ndarray]:
    """The version's signature names both; what plain MLflow answers with it."""
    mlflow.set_tracking_uri(world.settings.mlflow_tracking_uri)
    version = mlflow.MlflowClient().get_model_version("several", "1")
    assert 0.9 < float(version.tags["f1"]) <= 1
    assert "output embedding near the original's" in gate_of(version.run_id)
    model = mlflow.pyfunc.load_model("models:/several/1")
    outputs = model.metadata.signature.outputs
    assert [(one.name, tuple(one.shape)) for one in outputs.inputs] == [
        ("probabilities", (-1, 3)),
        ("embedding", (-1, 8)),
    ]
    answer: dict[str, np.ndarray] = model.predict({"input": traffic()})
    assert list(answer) == NAMES
    return answer


def gate_of(run_id: str) -> dict[str, bool]:
    """The checks of the gate that the release passed, by name; F1 decides, accuracy is told too."""
    text = mlflow.artifacts.load_text(f"runs:/{run_id}/verification/report.json")
    said = json.loads(text)
    found = {check["name"]: check["passed"] for check in said["decision"]["checks"]}
    assert "macro F1 on gate, against the original" in found
    assert said["evidence"]["accuracy"]["candidate"]["value"] > 0.9
    return found


def served(url: str, rows: np.ndarray, expected: dict[str, np.ndarray]) -> None:
    answer = httpx.post(f"{url}/invocations", json={"inputs": rows.tolist()}, timeout=30)
    assert answer.status_code == 200, answer.text
    given = answer.json()["predictions"]
    assert list(given) == NAMES
    tensor = {"name": "input", "datatype": "FP32", "shape": list(rows.shape), "data": rows.ravel().tolist()}
    answer = httpx.post(f"{url}/v2/models/several/infer", json={"inputs": [tensor]}, timeout=30)
    assert answer.status_code == 200, answer.text
    open_protocol = {one["name"]: np.reshape(one["data"], one["shape"]) for one in answer.json()["outputs"]}
    assert list(open_protocol) == NAMES
    for name, values in expected.items():
        np.testing.assert_allclose(given[name], values, atol=1e-5)
        np.testing.assert_allclose(open_protocol[name], values, atol=1e-5)


def journalled(world: World, rows: np.ndarray, expected: np.ndarray) -> None:
    """The deciding output alone: row by row, then all in one request in either protocol."""
    journal, asked = world.home / "journal" / "several", 3 * len(rows)
    for _ in range(100):  # an answer does not wait for the sync that shows its rows to readers
        if end(journal) == asked:
            break
        time.sleep(0.1)
    kept = window(journal, 0, end(journal))
    assert kept.output.shape == (asked, 3)
    np.testing.assert_allclose(kept.output, np.tile(expected, (3, 1)), atol=1e-5)


def scored(world: World, rows: np.ndarray, expected: np.ndarray) -> None:
    """The deciding output alone."""
    dataset, output = world.project / "several.parquet", world.project / "several-scores.parquet"
    pq.write_table(pa.table({"row": range(len(rows)), "input": rows.tolist()}), dataset)
    said = world.trimtab("score", "several", "--input", dataset, "--output", output, "--key", "row")
    assert (said["rows"], said["bad"]) == (len(rows), 0)
    table = pq.read_table(output)
    assert table.column_names == ["row", "probabilities", "predicted", "version"]
    np.testing.assert_allclose(np.stack(table["probabilities"].to_pylist()), expected, atol=1e-5)
