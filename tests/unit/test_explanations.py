"""Why a release answers as it does, by its own predictor, with what is usual in its own reference rows."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trimtab.explanations import explain
from trimtab.monitoring.profile import reference_parquet
from trimtab.serving.limits import Limits
from trimtab.serving.release import Loaded

Array = np.ndarray
WEIGHTS = np.array([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0]], np.float32).T  # (features, classes)


class Linear:
    """Softmax of a linear map; of a regression the first column of the map. Flat rows of any shape."""

    reentrant = True

    def __init__(self, weights: Array, regression: bool = False) -> None:
        self.spec: dict[str, Any] = {}
        self.weights, self.regression = weights, regression
        self.sizes: list[int] = []

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        rows = inputs["input"].reshape(len(inputs["input"]), -1)
        self.sizes.append(len(rows))
        logits = rows @ self.weights
        if self.regression:
            return {"prediction": logits[:, :1]}
        exponent = np.exp(logits)
        return {"probabilities": exponent / exponent.sum(axis=1, keepdims=True)}


def loaded(model: Linear, **facts: Any) -> Loaded:
    known = {"target": "onnxruntime-cpu", "precision": "fp32", "classes": 2, **facts}
    return Loaded("tiny", "3", model, Limits(), known, time.time_ns())


def release(folder: Path, golden: Array, reference: dict[str, Array] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    np.savez(folder / "golden.npz", **{"inputs/input": golden, "outputs/probabilities": np.zeros((len(golden), 2))})
    if reference is not None:
        (folder / "reference.parquet").write_bytes(reference_parquet(reference))
    return folder


def test_a_part_speaks_for_a_class_by_what_the_odds_lose_without_it(tmp_path: Path) -> None:
    folder = release(tmp_path / "r", np.zeros((4, 3), np.float32))
    rows = np.array([[1.0, 0.0, 5.0], [0.0, 2.0, 5.0]], np.float32)

    found = explain(loaded(Linear(WEIGHTS), labels=["cat", "dog"]), folder, {"input": rows})

    assert found.decided == (0, 1)
    assert found.labels == ("cat", "dog")
    np.testing.assert_allclose(found.attributions, [[3, 0, 0], [0, 2, 0]], atol=1e-5)
    assert found.parts == ("column 0", "column 1", "column 2")
    assert (found.name, found.version, found.unit) == ("tiny", "3", "log-odds")
    np.testing.assert_allclose(found.answers, [1 / (1 + np.exp(-3)), 1 / (1 + np.exp(-2))], rtol=1e-5)


def test_reference_rows_say_what_is_usual_where_their_columns_are_kept(tmp_path: Path) -> None:
    columns = {f"input[{index}]": np.full(50, value) for index, value in enumerate([1.0, 0.0, 0.0])}
    folder = release(tmp_path / "r", np.zeros((4, 3), np.float32), {**columns, "label": np.zeros(50)})

    found = explain(loaded(Linear(WEIGHTS)), folder, {"input": np.array([[1.0, 0.0, 0.0]], np.float32)})

    np.testing.assert_allclose(found.attributions, [[0, 0, 0]], atol=1e-6)  # a usual value takes nothing away
    assert "50 rows" in found.instead


def test_an_image_whose_reference_has_descriptors_only_falls_back_on_golden_rows(tmp_path: Path) -> None:
    golden = np.zeros((8, 1, 2, 2), np.float32)
    folder = release(tmp_path / "r", golden, {"input.mean": np.ones(50), "label": np.zeros(50)})
    weights = np.array([[2.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 1.0]], np.float32)

    found = explain(loaded(Linear(weights)), folder, {"input": np.ones((1, 1, 2, 2), np.float32)})

    assert len(found.parts) == 4
    np.testing.assert_allclose(found.attributions, [[2, 0, 0, -1]], atol=1e-5)
    assert "8 rows" in found.instead


def test_of_a_regression_the_first_number_is_explained_in_its_own_unit(tmp_path: Path) -> None:
    folder = release(tmp_path / "r", np.zeros((4, 3), np.float32))
    model = loaded(Linear(WEIGHTS, regression=True), task="regression", outputs=1)

    found = explain(model, folder, {"input": np.array([[2.0, 7.0, 7.0]], np.float32)})

    np.testing.assert_allclose(found.attributions, [[6, 0, 0]], atol=1e-5)
    assert (found.unit, found.labels, found.answers) == ("prediction", None, (6.0,))


def test_rows_are_asked_alone_where_they_change_each_others_answers(tmp_path: Path) -> None:
    folder, model = release(tmp_path / "r", np.zeros((4, 3), np.float32)), Linear(WEIGHTS)

    explain(loaded(model, precision="int8-dynamic"), folder, {"input": np.ones((1, 3), np.float32)})

    assert set(model.sizes) == {1}


@pytest.mark.parametrize(
    ("columns", "parts"), [(["x", "y", "z"], ("x", "y", "z")), (["x"], ("column 0", "column 1", "column 2"))]
)
def test_features_have_the_names_of_their_columns(tmp_path: Path, columns: list[str], parts: tuple[str, ...]) -> None:
    folder = release(tmp_path / "r", np.zeros((4, 3), np.float32))

    found = explain(loaded(Linear(WEIGHTS)), folder, {"input": np.ones((1, 3), np.float32)}, columns)

    assert found.parts == parts
    json.dumps(found.to_json())
    assert found.to_json()["method"] == "occlusion"
