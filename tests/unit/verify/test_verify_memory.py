"""Peak memory: a build that holds more is seen to, each in a process of its own, and a failure says which."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from trimtab.convert import convert
from trimtab.convert.graph import deployed, spec_of
from trimtab.errors import StateError
from trimtab.recipe.schema import Preprocess
from trimtab.verify.memory import footprints

ROWS = {"input": np.zeros((4, 64), np.float32)}


def build(folder: Path, width: int) -> Path:
    folder.mkdir()
    module = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 3)).eval()
    target = "onnxruntime-cpu"
    convert("c", target, deployed(module, Preprocess()), ROWS, spec_of(ROWS, 3), folder)
    return folder


def test_a_build_of_thirty_megabytes_takes_thirty_more_than_a_small_one(tmp_path: Path) -> None:
    builds = {"small": build(tmp_path / "s", 8), "large": build(tmp_path / "l", 120_000)}
    costs = footprints({name: ("onnxruntime-cpu", folder) for name, folder in builds.items()}, ROWS, 32, 1)
    found = {name: cost.peak_mb for name, cost in costs.items()}
    assert 0 < costs["small"].load_s < costs["large"].load_s < 60
    weights = 120_000 * 67 * 4 / 2**20
    assert weights < found["large"] - found["small"] < 6 * weights
    assert 0 <= found["small"] < 30


def test_a_build_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    with pytest.raises(StateError, match="gone"):
        footprints({"x": ("onnxruntime-cpu", tmp_path / "gone")}, ROWS, 4, 1)
