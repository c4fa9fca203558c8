"""`model.answer` and `model.also`: which outputs a recipe may keep, and what is said of those it may not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trimtab.errors import ModelError, RecipeError
from trimtab.model_check import check_model
from trimtab.outputs import ONE, Outputs
from trimtab.recipe.load import parse_recipe
from trimtab.recipe.schema import Recipe
from trimtab.settings import Settings
from trimtab.targets import TARGETS
from trimtab.workbench import Workbench

CODE = """
import numpy as np, torch
from torch import nn
from torch.utils.data import TensorDataset

def split(name):
    random = np.random.default_rng({"train": 1, "validation": 2, "gate": 3}[name])
    values = random.normal(size=(80, 4)).astype(np.float32)
    return TensorDataset(torch.from_numpy(values), torch.from_numpy((values[:, 0] > 0).astype(np.int64)))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, input):
        hidden = torch.relu(self.body(input))
        return {"logits": self.head(hidden), "hidden": (hidden, hidden.mean(0)), "row": 3}

def build():
    return Net()
"""


def recipe(model: str, more: str = "") -> Recipe:
    return parse_recipe(f"name: a\nmodel: {{callable: m:b{model}}}\ndata: d:s\n{more}")


def bench(folder: Path, model: str) -> Workbench:
    (folder / "several_net.py").write_text(CODE)
    (folder / "recipe.yaml").write_text(
        f"name: a\nmodel: {{callable: several_net:build{model}}}\ndata: several_net:split\n"
        "compress: {search: null, quantize: null}\n"
    )
    return Workbench(folder / "recipe.yaml", Settings(home=folder / "home"))


def test_outputs_are_read_and_a_recipe_without_them_keeps_its_identity() -> None:
    plain, said = recipe(""), recipe(', answer: head.logits, also: {embedding: "hidden.0"}')
    assert plain.outputs == ONE
    assert said.outputs == Outputs("head.logits", {"embedding": "hidden.0"})
    assert not {"answer", "also"} & set(plain.identity()["model"])
    assert "max_output_difference" not in plain.identity()["budget"]
    assert said.identity()["model"]["also"] == {"embedding": "hidden.0"}


@pytest.mark.parametrize(
    ("model", "more", "told"),
    [
        (", also: {embedding: hidden}", "", "say which that is in model.answer"),
        (", answer: logits, also: {probabilities: hidden}", "", r"model\.also\.probabilities: the name is taken"),
        (", answer: logits, also: {prediction: hidden}", "", "the name is taken"),
        (", answer: logits, also: {class: hidden}", "", "the name is taken"),
        (', answer: logits, also: {"two words": hidden}', "", r"model\.also\.two words"),
        (', answer: logits, also: {"é": hidden}', "", r"model\.also\.é"),
        (", answer: logits, also: {one: hidden, two: hidden}", "", "hidden is already kept as one"),
        (", answer: 3", "", r"model\.answer"),
        (", answer: logits", "compress: {qat: {}}\n", "compress.qat is of models that return one tensor"),
        (", answer: a, also: {b: c}", "compress: {student: {kwargs: [{w: 1}]}}\n", "nobody would teach it b"),
        (", answer: a, also: {b: a}", "task: regression\n", "a is the prediction itself"),
        (", answer: a", "budget: {max_output_difference: 0.1}\n", "model.also names no outputs"),
    ],
)
def test_outputs_that_cannot_be_meant_are_refused(model: str, more: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        recipe(model, more)


@pytest.mark.parametrize("target", [name for name, entry in TARGETS.items() if not entry.further_outputs])
def test_a_target_that_cannot_hold_them_is_refused_with_the_recipe(target: str) -> None:
    targets = f"targets: [onnxruntime-cpu, {target}]\n"
    with pytest.raises(RecipeError, match=f"embedding cannot be held by {target}"):
        recipe(", answer: logits, also: {embedding: hidden}", targets)
    recipe(", answer: logits", targets)  # one output is one tensor


def test_a_model_that_fits_is_let_in_with_the_shapes_of_its_outputs(tmp_path: Path) -> None:
    found = bench(tmp_path, ', answer: logits, also: {embedding: "hidden.0"}')
    assert check_model(found).output == (4, 2)
    assert found.further == [{"name": "embedding", "dtype": "float32", "shape": ["batch", 8]}]


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("", r"returned dict, not one tensor.*logits, hidden\.0, hidden\.1.*model\.answer: logits"),
        (", answer: logit", r"nothing at 'logit'.*there are logits, hidden\.0"),
        (", answer: hidden", r"'hidden' holds hidden\.0, hidden\.1"),
        (", answer: logits, also: {row: row}", "'row' is int, not a tensor"),
        (', answer: logits, also: {mean: "hidden.1"}', r"has shape \(8,\) for 3 rows.*first axis must be the batch"),
        (', answer: logits, also: {input: "hidden.0"}', "input is an input of the model"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_at_the_door(tmp_path: Path, model: str, told: str) -> None:
    with pytest.raises(ModelError) as caught:
        check_model(bench(tmp_path, model))
    assert re.search(told, str(caught.value), re.DOTALL), str(caught.value)
