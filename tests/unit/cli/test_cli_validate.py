"""`trimtab init` and `validate` as a user meets them: every bad input has its message and its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

GOOD = """
import numpy as np, torch
from torch import nn
from torch.utils.data import TensorDataset

def table(seed, rows):
    random = np.random.default_rng(seed)
    features = random.normal(size=(rows, 4))
    return torch.from_numpy(features.astype(np.float32)), torch.from_numpy(random.integers(0, 2, rows))

def split(name):
    return TensorDataset(*table({"train": 1, "validation": 2, "gate": 3}[name], 60))

def build():
    return nn.Linear(4, 2)
"""
RECIPE = "name: demo\nmodel: net:build\ndata: net:split\n"
SEARCH = (
    "train: {search: {trials: 9, space: {train.lr: {low: 0.01, high: 0.1}, model.kwargs.bias: {choices: [true]}}}}\n"
)
TAKES_BIAS = GOOD.replace("build()", "build(bias=False)")

# name → (code, recipe, exit code, what is said)
CASES: dict[str, tuple[str, str, int, str]] = {
    "good": (GOOD, RECIPE, 0, "a release would"),
    "unknown key": (GOOD, RECIPE + "budgett: {}\n", 2, "did you mean budget?"),
    "wrong type": (GOOD, RECIPE + "train: {epochs: many}\n", 2, "train.epochs: 'many' is not allowed"),
    "optimizer option": (GOOD, RECIPE + "train: {optimizer_options: {beta: 1}}\n", 2, "did you mean betas?"),
    "no training": (GOOD, RECIPE.replace("model: net:build", "model: {callable: net:build, train: net:fit}"), 2, "fit"),
    "augmentation": (
        GOOD + "\ndef half(inputs, generator):\n    return {'input': inputs['input'][:, :2]}\n",
        RECIPE.replace("model: net:build", "model: {callable: net:build, augment: net:half}"),
        5,
        "net:half: input is (4, 2) float32, was (4, 4) float32",
    ),
    "search": (TAKES_BIAS, RECIPE + SEARCH, 0, "search train.lr, model.kwargs.bias in 9 trials, then train"),
    "search unknown argument": (GOOD, RECIPE + SEARCH, 3, "unexpected keyword argument 'bias'"),
    "shapes": (GOOD, RECIPE + "compress: {search: {trials: 4, shapes: 2}}\n", 0, "measure up to 4 shapes"),
    "two clips": (GOOD, RECIPE + "train: {clip_norm: 1, clip_value: 1}\n", 2, "clip_norm and clip_value"),
    "not importable": ("import nowhere_to_be_found\n", RECIPE, 3, "nowhere_to_be_found"),
    "their traceback": (GOOD.replace("return nn.Linear(4, 2)", "return [][1]"), RECIPE, 3, "return [][1]"),
    "loader raises": (GOOD.replace('"gate": 3', '"gaze": 3'), RECIPE, 3, "KeyError"),
    "no module": (GOOD.replace("return nn.Linear(4, 2)", "return 7"), RECIPE, 5, "returned int"),
    "wrong classes": (GOOD.replace("nn.Linear(4, 2)", "nn.Linear(4, 5)"), RECIPE, 5, "the task wants logits (4, 2)"),
    "wrong rank": (GOOD.replace("nn.Linear(4, 2)", "nn.Unflatten(1, (2, 2))"), RECIPE, 5, "(4, 2, 2)"),
    "forward raises": (GOOD.replace("nn.Linear(4, 2)", "nn.Linear(9, 2)"), RECIPE, 3, "forward raised"),
    "nan": (GOOD.replace("random.normal(size=(rows, 4))", "np.full((rows, 4), np.nan)"), RECIPE, 4, "NaN"),
    "empty split": (GOOD.replace("[name], 60", "[name], 60 if name != 'gate' else 0"), RECIPE, 4, "empty"),
    "one class": (GOOD.replace("random.integers(0, 2, rows)", "np.zeros(rows, int)"), RECIPE, 4, "one class only"),
    "few rows": (GOOD.replace("[name], 60", "[name], 20"), RECIPE, 4, "calibration wants at least 32"),
    "the same rows": (GOOD.replace('"gate": 3', '"gate": 1'), RECIPE, 4, "also in train"),
    "slices": (
        GOOD + "def parts(split):\n    return {'few': [True] * 59}\n",
        RECIPE + "verify: {slices: net:parts}\n",
        4,
        "(59,), the split has 60 rows",
    ),
    "labels": (GOOD, RECIPE + "labels: [a, b, c]\n", 5, "the task wants logits (4, 3)"),
}

SCRIPT = """
import json, sys
from pathlib import Path
from typer.testing import CliRunner
from deployments.cli.main import app
root = Path(sys.argv[1])
runner = CliRunner()
answers = {}
for folder in sorted(root.iterdir()):
    result = runner.invoke(app, ["validate", str(folder / "recipe.yaml"), "--home", str(root.parent / "home")])
    answers[folder.name] = [result.exit_code, result.output]
    shown = repr(result.exception)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        answers[folder.name].append(shown)
gone = runner.invoke(app, ["validate", str(root / "no.yaml")])
answers["missing file"] = [gone.exit_code, gone.output]
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Every case through the real command, in one process of its own (importing torch once)."""
    root: Path = tmp_path_factory.mktemp("cli")
    for name, (code, recipe, _, _) in CASES.items():
        folder = root / "cases" / name
        folder.mkdir(parents=True)
        (folder / "net.py").write_text(code)
        (folder / "recipe.yaml").write_text(recipe)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "COLUMNS": "400", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(root / "cases")],
        env=environment,
        cwd=root,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not (root / "home").exists(), "validate must not write"
    found: dict[str, list[Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("case", CASES)
def test_each_input_has_its_exit_code_and_says_what_is_wrong(answers: dict[str, list[Any]], case: str):
    _, _, code, said = CASES[case]
    exit_code, output, *crash = answers[case]
    assert not crash, crash
    assert said in output
    assert exit_code == code, output
    assert "trimtab/recipe/entry.py" not in output


def test_a_missing_recipe_is_named(answers: dict[str, list[Any]]):
    exit_code, output = answers["missing file"]
    assert exit_code == 2
    assert "no.yaml" in output
    assert "no such file" in output
