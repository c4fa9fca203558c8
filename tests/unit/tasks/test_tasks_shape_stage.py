"""The stage where shapes are measured: lanes and rounding once a study, not again after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.shape_stage import Stage
from trimtab.compress.search.rounding import Rounding
from trimtab.compress.search.shape import Shape
from trimtab.compress.search.study import Study
from trimtab.compress.search.survey import Survey
from trimtab.errors import ConversionError
from trimtab.optimize.original import make_original
from trimtab.settings import Settings
from trimtab.workbench import Workbench

CODE = """
import numpy as np, torch
from torch import nn
from torch.utils.data import TensorDataset

def split(name):
    n = {"train": 64, "validation": 32, "gate": 32}[name]
    random = np.random.default_rng(sum(map(ord, name)))
    return TensorDataset(torch.from_numpy(random.normal(size=(n, 3, 6, 6)).astype(np.float32)), torch.arange(n) % 3)

def build():
    return nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3))
"""
RECIPE = """
name: a
model: net_of_stage:build
data: net_of_stage:split
targets: [torchscript-cpu]
train: {epochs: 1, threads: 1}
compress: {shorten: null, quantize: null, prune: {norms: [l2], ratios: [0.5]}}
measure: {batch_sizes: [1], rounds: 3, screening_rounds: 3, calls: 3}
"""


def stage(folder: Path) -> Stage:
    (folder / "net_of_stage.py").write_text(CODE)
    (folder / "recipe.yaml").write_text(RECIPE)
    bench = Workbench(folder / "recipe.yaml", Settings(home=folder / "home").ensure_home())
    original = bench.keep(make_original(bench))
    built = folder / "built"
    built.mkdir()
    return Stage(bench, original, Survey(bench, original), Study(folder / "s.journal", 0, []), built)


def again(first: Stage, folder: Path) -> Stage:
    """As after a kill: the same study, opened anew."""
    built = folder / "again"
    built.mkdir()
    fresh = Stage.__new__(Stage)
    fresh.__dict__ |= {key: first.__dict__[key] for key in ("bench", "survey", "inputs", "eager", "every")}
    fresh.study, fresh.folder, fresh._uncut = Study(folder / "s.journal", 0, []), built, {}
    return fresh


def refuse(*_: Any) -> Any:
    raise AssertionError("measured again")


def test_lanes_and_rounding_are_measured_once_a_study_and_shapes_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stage(tmp_path)
    rounding = first.rounding()
    assert rounding.round_to in (4, 8, 16)
    assert [sorted(found) for found in rounding.latency.values()] == [[0, 8, 12, 16]]
    facts, noise = first.known
    assert set(facts) == {"fp32 on torchscript-cpu"}
    assert noise > 0

    second = again(first, tmp_path)
    monkeypatch.setattr(second, "_lanes", refuse)
    monkeypatch.setattr(second, "_rounding", refuse)
    assert second.rounding() == rounding
    assert second.known == first.known
    (lane,) = second.lanes
    assert set(second.measure(Shape(ratios={"0": 0.5})).speedup) == {lane.name}


def test_a_rounding_that_cannot_be_measured_is_eight_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> Rounding:
        raise ConversionError("no such operator", where="onnx")

    empty = Stage.__new__(Stage)
    empty.study = Study(tmp_path / "s.journal", 0, [])
    monkeypatch.setattr(empty, "_rounding", fails)
    found = empty.rounding()
    assert found.round_to == 8
    assert "no such operator" in found.reason
