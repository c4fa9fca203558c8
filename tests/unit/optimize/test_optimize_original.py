"""The original made by a user's own training function: what is kept answers like what was trained, or it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from trimtab.compress.module_steps import NORM_ROWS, rows_of
from trimtab.errors import ModelError, RecipeError
from trimtab.optimize.original import make_original, planned_original
from trimtab.recipe import load_recipe
from trimtab.settings import Settings
from trimtab.workbench import Workbench

CODE = """
import numpy as np, torch
from torch import nn
from torch.utils.data import TensorDataset

class Scaled(nn.Linear):
    scale = 1.0
    def forward(self, x):
        return self.scale * super().forward(x)

def split(name):
    random = np.random.default_rng({"train": 1, "validation": 2, "gate": 3}[name])
    rows = 3000 if name == "train" else 60
    labels = np.sort(random.integers(0, 2, rows))
    return TensorDataset(torch.from_numpy(random.normal(size=(rows, 4)).astype(np.float32)), torch.from_numpy(labels))

def build():
    torch.manual_seed(0)
    return Scaled(4, 2)

def train(model, train, validation):
    with torch.no_grad():
        model.weight.mul_(2)

def beside(model, train, validation):
    model.scale = 3.0
"""


def workbench(folder: Path, train: str, more: str = "") -> Workbench:
    (folder / "own_net.py").write_text(CODE)
    path = folder / "recipe.yaml"
    path.write_text(
        f"name: own\nmodel: {{callable: own_net:build, train: own_net:{train}}}\ndata: own_net:split\n{more}"
    )
    return Workbench(path, Settings(home=folder / "home"))


def test_the_users_training_is_what_is_kept(tmp_path: Path) -> None:
    bench = workbench(tmp_path, "train")

    made = make_original(bench)

    assert made.lineage[0].parameters == {"own": "own_net:train", "threads": None}
    assert made.id == planned_original(bench, None).id
    assert len(json.loads((bench.folder(made.id) / "history.json").read_text())) == 1


def test_a_training_that_changes_more_than_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="answer otherwise"):
        make_original(workbench(tmp_path, "beside"))


def test_a_training_that_would_not_run_is_refused_with_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "name: own\nmodel: {callable: n:b, train: n:t, weights: w.safetensors}\ndata: n:s\n"
    )
    with pytest.raises(RecipeError, match=r"train\.always"):
        load_recipe(tmp_path / "recipe.yaml")


def test_rows_for_batch_norms_are_taken_from_the_whole_split(tmp_path: Path) -> None:
    bench = workbench(tmp_path, "train")  # its rows are sorted by class
    train = bench.splits["train"]

    rows = rows_of(bench, NORM_ROWS)["input"]

    assert len(rows) == NORM_ROWS
    assert np.array_equal(rows[0], train.inputs["input"][0])
    assert np.array_equal(rows[-1], train.inputs["input"][-1])
    assert len(rows_of(bench, 10_000)["input"]) == len(train)
