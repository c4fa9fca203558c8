"""Students of the same family: built as their record says wherever they are opened, and never left untaught."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trimtab.candidate import Candidate, Step
from trimtab.compress.assess import eager, open_build
from trimtab.compress.convert_candidate import convert_candidate
from trimtab.compress.make import make
from trimtab.compress.opening import open_torch
from trimtab.compress.student import build_student, check_order, check_students, student_steps
from trimtab.errors import ModelError, RecipeError, UnsupportedError, UserCodeError
from trimtab.optimize.original import make_original
from trimtab.recipe import load_recipe
from trimtab.recipe.schema import Student
from trimtab.settings import Settings
from trimtab.workbench import Workbench

CODE = """
import numpy as np, torch
from torch import nn
from torch.utils.data import TensorDataset

def split(name):
    random = np.random.default_rng({"train": 1, "validation": 2, "gate": 3}[name])
    values = random.normal(size=(120, 4)).astype(np.float32)
    return TensorDataset(torch.from_numpy(values), torch.from_numpy((values[:, 0] > 0).astype(np.int64)))

def build(width=32, depth=1, classes=2):
    inner = [layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), *inner, nn.Linear(width, classes))
"""


def workbench(folder: Path, student: str = "", more: str = "distil: {epochs: 3, threads: 1}") -> Workbench:
    (folder / "family_net.py").write_text(CODE)
    path = folder / "recipe.yaml"
    path.write_text(
        "name: a\nmodel: {callable: family_net:build, kwargs: {depth: 2}}\ndata: family_net:split\n"
        f"train: {{epochs: 8, lr: 0.01, threads: 1}}\ncompress:\n  {more}\n  {student}\n"
    )
    return Workbench(path, Settings(home=folder / "home"))


def steps(bench: Workbench, kwargs: dict[str, Any], seed: int = 0) -> list[Step]:
    (first,) = student_steps(Student(kwargs=[kwargs]), seed)
    distil = bench.recipe.compress.distil
    assert distil is not None
    return [first, Step("distil", {**distil.model_dump(mode="json"), "label": "distil"}, seed)]


def test_a_student_comes_back_from_its_record_alone_and_converts(tmp_path: Path) -> None:
    bench = workbench(tmp_path)
    original = bench.keep(make_original(bench))
    made = bench.keep(make(bench, original, steps(bench, {"width": 8})))

    again = workbench(tmp_path)
    found = again.stored(made.id)
    assert found is not None
    assert found.label == "student-width=8 distil"
    module = open_torch(again, found)
    # Width is the student's, depth is the recipe's.
    assert [layer.out_features for layer in module if hasattr(layer, "out_features")] == [8, 8, 8, 2]
    assert open_torch(again, original)[0].out_features == 32

    build = again.keep_converted(convert_candidate(again, found, "torchscript-cpu"))
    inputs = dict(again.splits["validation"].inputs)
    answers = [p.predict(inputs)["probabilities"] for p in (open_build(again, build), eager(again, found))]
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-5)


def test_what_is_cut_from_a_student_is_replayed_on_a_student(tmp_path: Path) -> None:
    bench = workbench(tmp_path)
    original = bench.keep(make_original(bench))
    prune = Step("prune", {"norm": "l1", "ratio": 0.5, "round_to": 1, "label": "prune"})
    made = bench.keep(make(bench, original, [*steps(bench, {"width": 16}), prune]))
    assert open_torch(bench, made)[0].out_features == 8


def test_it_learns_from_the_original(tmp_path: Path) -> None:
    bench = workbench(tmp_path, more="distil: {epochs: 30, lr: 0.01, threads: 1}")
    original = bench.keep(make_original(bench))
    plan = steps(bench, {"width": 8})
    validation = bench.splits["validation"]
    inputs = {"input": torch.from_numpy(validation.inputs["input"])}
    said = open_torch(bench, original)(inputs["input"]).argmax(1)
    taught = open_torch(bench, make(bench, original, plan))
    untaught = build_student(bench, plan[0])
    agreement = [float((model(inputs["input"]).argmax(1) == said).float().mean()) for model in (taught, untaught)]
    assert agreement[0] > 0.85
    assert agreement[0] > agreement[1]


def test_the_seed_decides_its_first_weights_and_its_identity(tmp_path: Path) -> None:
    bench = workbench(tmp_path)
    models = [build_student(bench, steps(bench, {"width": 8}, seed)[0])[0].weight for seed in (1, 1, 2)]
    assert torch.equal(models[0], models[1])
    assert not torch.equal(models[0], models[2])
    ids = {Candidate(tuple(steps(bench, {"width": w}, s)), bench.inputs).id for w, s in ((8, 1), (8, 2), (9, 1))}
    assert len(ids) == 3


def test_equal_arguments_make_one_student_and_labels_stay_short() -> None:
    given = [{"width": 8, "depth": 2}, {"depth": 2, "width": 8}, {"widths": [8, 16, 16]}, {"text": "x" * 99}, {}]
    labels = [step.parameters["label"] for step in student_steps(Student(kwargs=given), 0)]
    assert labels[:2] == ["student-depth=2-width=8", "student-widths=8-16-16"]
    assert len(labels) == len(set(labels)) == 4
    assert max(map(len, labels)) < 50
    assert student_steps(None, 0) == []


def test_a_student_without_distillation_is_refused_with_the_recipe(tmp_path: Path) -> None:
    workbench(tmp_path, "student: {kwargs: [{width: 8}]}")
    assert load_recipe(tmp_path / "recipe.yaml").compress.student is not None
    with pytest.raises(RecipeError, match="student needs distil"):
        workbench(tmp_path, "student: {kwargs: [{width: 8}]}", more="distil: null")


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        (["student"], "knows nothing before it is distilled"),
        (["student", "prune", "distil"], "knows nothing before it is distilled"),
        (["student", "quantize"], "knows nothing before it is distilled"),
        (["distil", "student"], "comes first"),
        (["student", "student", "distil"], "comes first"),
    ],
)
def test_a_plan_out_of_order_is_refused(methods: list[str], said: str) -> None:
    with pytest.raises(UnsupportedError, match=said):
        check_order([Step(method) for method in methods])


def test_make_refuses_a_plan_out_of_order_before_it_makes_anything(tmp_path: Path) -> None:
    bench = workbench(tmp_path)
    original = bench.keep(make_original(bench))
    student = steps(bench, {"width": 8})[0]
    for plan in ([student], [student, Step("quantize", {"label": "int8"})]):
        with pytest.raises(UnsupportedError, match="knows nothing"):
            make(bench, original, plan)


@pytest.mark.parametrize(
    ("kwargs", "kind", "said"),
    [
        ("{hidden: 8}", UserCodeError, "unexpected keyword argument 'hidden'"),
        ("{width: 8, classes: 3}", ModelError, r"shape \(4, 3\), the task wants logits \(4, 2\)"),
    ],
)
def test_arguments_that_do_not_do_are_named_at_the_door(
    tmp_path: Path, kwargs: str, kind: type[Exception], said: str
) -> None:
    bench = workbench(tmp_path, f"student: {{kwargs: [{{width: 8}}, {kwargs}]}}")
    with pytest.raises(kind, match=said) as caught:
        check_students(bench)
    assert "compress.student.kwargs" in str(caught.value)
