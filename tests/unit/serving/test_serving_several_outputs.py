"""A release with outputs beside its answer, from the conversion through its folder to every form of the service."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from serving_world import SYNCED, asked
from torch import Tensor, nn

from trimtab.convert import convert
from trimtab.convert.graph import deployed, measured_spec
from trimtab.journal.reader import window
from trimtab.outputs import Outputs
from trimtab.recipe.schema import Preprocess
from trimtab.registry.package import Facts, Golden, check, pack, read_golden, read_spec
from trimtab.registry.pyfunc_model import signature_of
from trimtab.runtime.onnxruntime_cpu import Predictor
from trimtab.serving.release import Loaded, ReleaseRefused, load_release

ROWS = np.random.default_rng(0).standard_normal((8, 6)).astype(np.float32)
NAMES = ["probabilities", "embedding", "steps"]
TARGET = "onnxruntime-cpu"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, input: Tensor) -> dict[str, Any]:
        hidden = torch.tanh(self.body(input))
        return {"logits": self.head(hidden), "hidden": [hidden, hidden.reshape(-1, 2, 4)]}


def packed(folder: Path, change: float = 0.0) -> Path:
    """The release; `change` is added to the recorded embedding."""
    outputs = Outputs("logits", {"embedding": "hidden.0", "steps": "hidden.1"})
    module, example = deployed(Net(), Preprocess(), outputs=outputs), {"input": ROWS}
    (graph := folder / "graph").mkdir()
    convert("abc", TARGET, module, example, measured_spec(module, example), graph)
    answers = Predictor.load(graph, 1).predict(example)
    answers["embedding"] = answers["embedding"] + np.float32(change)
    facts = Facts("tiny", "abc", "original", TARGET, "fp32", 1, 3, None, {"answer": "pass"}, None)
    pack(graph, folder / "release", facts, Golden(example, answers))
    return folder / "release"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def loaded(release: Path) -> Loaded:
    return load_release(release, "7", processes=0, **SYNCED)


@pytest.fixture
def client(loaded: Loaded, tmp_path: Path) -> Iterator[Any]:
    with asked(tmp_path, loaded) as (found, _):
        yield found


@pytest.fixture(scope="module")
def expected(release: Path) -> dict[str, np.ndarray]:
    return dict(read_golden(release).outputs)


def test_the_folder_names_and_records_all_outputs_and_so_does_the_signature(release: Path) -> None:
    check(release, name="tiny")
    spec = read_spec(release)
    assert [tensor["name"] for tensor in spec["outputs"]] == NAMES
    assert set(read_golden(release).outputs) == set(NAMES)
    schema = signature_of(spec).outputs
    assert [(one.name, tuple(one.shape)) for one in schema.inputs] == [
        ("probabilities", (-1, 3)),
        ("embedding", (-1, 8)),
        ("steps", (-1, 2, 4)),
    ]


def test_a_release_that_answers_another_further_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseRefused, match="golden rows: output 'embedding': answers differ"):
        load_release(packed(tmp_path, change=0.1), "7", processes=0)


def test_mlflows_form_answers_all_outputs_and_the_journal_keeps_the_one_that_decides(
    client: Any, expected: dict[str, np.ndarray], tmp_path: Path
) -> None:
    answer = client.post("/invocations", json={"inputs": ROWS.tolist()})
    assert answer.status_code == 200, answer.text
    given = answer.json()["predictions"]
    assert list(given) == NAMES
    for name, values in expected.items():
        np.testing.assert_allclose(given[name], values, atol=1e-6)
    kept = window(tmp_path / "journal", 0, len(ROWS))
    np.testing.assert_allclose(kept.output, expected["probabilities"], atol=1e-6)


def test_v2_answers_all_or_those_that_are_asked_for(client: Any, expected: dict[str, np.ndarray]) -> None:
    assert [one["name"] for one in client.get("/v2/models/tiny").json()["outputs"]] == NAMES
    tensor = {"name": "input", "datatype": "FP32", "shape": list(ROWS.shape), "data": ROWS.ravel().tolist()}
    whole = client.post("/v2/models/tiny/infer", json={"inputs": [tensor]}).json()["outputs"]
    assert [(one["name"], one["shape"]) for one in whole] == [
        ("probabilities", [8, 3]),
        ("embedding", [8, 8]),
        ("steps", [8, 2, 4]),
    ]
    asked_for = {"inputs": [tensor], "outputs": [{"name": "steps"}]}
    (one,) = client.post("/v2/models/tiny/infer", json=asked_for).json()["outputs"]
    np.testing.assert_allclose(np.reshape(one["data"], one["shape"]), expected["steps"], atol=1e-6)


def test_raw_forms_answer_the_one_that_decides(client: Any, expected: dict[str, np.ndarray]) -> None:
    headers = {"Content-Type": "application/octet-stream", "Accept": "application/x-npy"}
    answer = client.post("/invocations", content=ROWS.tobytes(), headers=headers)
    assert answer.status_code == 200, answer.text
    np.testing.assert_allclose(np.load(io.BytesIO(answer.content)), expected["probabilities"], atol=1e-6)


def test_the_description_of_the_service_names_all_outputs(client: Any) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert list(schemas["Predictions"]["properties"]["predictions"]["properties"]) == NAMES


def test_requests_that_share_a_call_get_their_own_rows_of_every_output(
    loaded: Loaded, expected: dict[str, np.ndarray]
) -> None:
    from trimtab.serving.calls import Job, ask_together
    from trimtab.serving.patience import Patience

    jobs = [Job({"input": ROWS[start : start + 4]}, Patience(), lambda _: None) for start in (0, 4)]
    for place, answer in enumerate(ask_together(loaded, jobs)):
        for name, values in expected.items():
            np.testing.assert_allclose(answer.outputs[name], values[4 * place : 4 * place + 4], atol=1e-6)
