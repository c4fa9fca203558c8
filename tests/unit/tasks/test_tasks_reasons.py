"""Attributions of a release's builds, from a real recipe: the same reasons on another runtime, and after quantizing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.reasons import Reasons
from trimtab.candidate import Step
from trimtab.compress.assess import eager, open_build
from trimtab.compress.convert_candidate import convert_candidate
from trimtab.compress.make import make
from trimtab.compress.opening import open_torch
from trimtab.optimize.original import make_original
from trimtab.recipe.schema import Quantize
from trimtab.settings import Settings
from trimtab.verify.attribution.regions import usual
from trimtab.workbench import Workbench

CODE = """
import numpy as np, torch
from torch import nn
from torch.utils.data import TensorDataset

def split(name):
    random = np.random.default_rng({"train": 1, "validation": 2, "gate": 3}[name])
    values = random.normal(size=(120, 6)).astype(np.float32)
    return TensorDataset(torch.from_numpy(values), torch.from_numpy((values @ [3, 2, 1, 0, 0, 0] > 0).astype(np.int64)))

def build():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "reasons_net.py").write_text(CODE)
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "name: a\nmodel: reasons_net:build\ndata: reasons_net:split\ntrain: {epochs: 5, lr: 0.02, threads: 1}\n"
    )
    return path


def test_another_runtime_decides_for_the_same_reasons(recipe: Path) -> None:
    bench = Workbench(recipe, Settings(home=recipe.parent / "home"))
    original = bench.keep(make_original(bench))
    build = bench.keep_converted(convert_candidate(bench, original, "onnxruntime-cpu"))
    found = Reasons(bench, original, eager(bench, original)).of(build, original, open_build(bench, build), 0.95)
    assert found is not None
    assert found.correlation.low > 0.99
    assert (found.regions, found.samples, found.note) == (6, 16, "")


def test_of_a_regression_the_answered_number_is_explained_on_any_runtime(tmp_path: Path) -> None:
    code = CODE.replace(" > 0).astype(np.int64)", ").astype(np.float32)")
    network = "nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))"
    (tmp_path / "numbers_net.py").write_text(code.replace(network, "nn.Linear(6, 1)"))
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "name: a\nmodel: numbers_net:build\ndata: numbers_net:split\ntask: regression\n"
        "train: {epochs: 5, lr: 0.02, threads: 1}\n"
    )
    bench = Workbench(path, Settings(home=tmp_path / "home"))
    original = bench.keep(make_original(bench))
    build = bench.keep_converted(convert_candidate(bench, original, "onnxruntime-cpu"))
    found = Reasons(bench, original, eager(bench, original)).of(build, original, open_build(bench, build), 0.95)
    assert found is not None
    assert found.correlation.low > 0.99
    weights = open_torch(bench, original).weight.detach().numpy()[0]
    away = usual(bench.splits["train"].inputs)["input"]
    for one in found.examples:
        expected = weights * (bench.splits["validation"].inputs["input"][one.row] - away)
        assert one.candidate == pytest.approx(expected, abs=1e-4)


def test_gradients_of_a_quantized_graph_are_those_of_the_module_before_and_the_note_says_so(recipe: Path) -> None:
    pytest.importorskip("captum", reason="captum is an optional extra: pip install 'trimtab[explain]'")
    recipe.write_text(recipe.read_text() + "verify: {explain: {method: integrated_gradients, samples: 4}}\n")
    bench = Workbench(recipe, Settings(home=recipe.parent / "home"))
    original = bench.keep(make_original(bench))
    step = Step("quantize", {**Quantize(calibration_rows=40).model_dump(mode="json"), "label": "int8"}, 0)
    made = bench.keep(make(bench, original, [step]))
    build = bench.keep_converted(convert_candidate(bench, made, "onnxruntime-cpu"))
    found = Reasons(bench, original, eager(bench, original)).of(build, made, open_build(bench, build), 0.95)
    assert found is not None
    assert found.correlation.value == pytest.approx(1)
    assert "without its rewriting" in found.note


def test_a_recipe_without_explanations_has_none(recipe: Path) -> None:
    recipe.write_text(recipe.read_text() + "verify: {explain: null}\n")
    bench = Workbench(recipe, Settings(home=recipe.parent / "home"))
    original = bench.keep(make_original(bench))
    build = bench.keep_converted(convert_candidate(bench, original, "onnxruntime-cpu"))
    assert Reasons(bench, original, eager(bench, original)).of(build, original, None, 0.95) is None
