"""Latency of an architecture that nobody has trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trimtab.errors import UserCodeError
from trimtab.settings import Settings
from trimtab.verify.architecture import speed_of
from trimtab.workbench import Workbench

CODE = """
import numpy as np, torch
from torch import nn
from torch.utils.data import TensorDataset

def split(name):
    draw = np.random.default_rng({"train": 1, "validation": 2, "gate": 3}[name])
    rows = draw.normal(size=(40, 16)).astype(np.float32)
    return TensorDataset(torch.from_numpy(rows), torch.from_numpy(draw.integers(0, 2, 40)))

def build(hidden=8):
    return nn.Sequential(nn.Linear(16, hidden), nn.ReLU(), nn.Linear(hidden, 2))
"""
RECIPE = """
name: speed
model: untrained_net:build
data: untrained_net:split
compress: {quantize: null}
targets: [torchscript-cpu]
measure: {batch_sizes: [2, 4], calls: 10}
"""


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    (tmp_path / "untrained_net.py").write_text(CODE)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return Workbench(tmp_path / "recipe.yaml", Settings(home=tmp_path / "home"))


def test_a_much_larger_architecture_is_slower_and_training_keeps_its_threads(bench: Workbench) -> None:
    torch.set_num_threads(2)
    try:
        small, large = speed_of(bench, {"hidden": 8}), speed_of(bench, {"hidden": 60_000})
        assert torch.get_num_threads() == 2  # the measurement is on one
    finally:
        torch.set_num_threads(1)

    assert large.share > 2 * small.share
    assert large.p50_s > small.p50_s > 0
    assert small.target == "torchscript-cpu"


def test_arguments_that_the_callable_does_not_take_are_its_error(bench: Workbench) -> None:
    with pytest.raises(UserCodeError, match="widht"):
        speed_of(bench, {"widht": 8})
