"""Lanes: what the recipe allows, one a target, built from one graph, and a closed one said and not fatal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from trimtab import runtime
from trimtab.candidate import Step
from trimtab.compress.make import make
from trimtab.compress.opening import open_torch
from trimtab.compress.search.lanes import (
    Lane,
    LaneFacts,
    build_lanes,
    bytes_of,
    fastest_of_each_target,
    lanes_of,
    not_worth_it,
)
from trimtab.compress.search.shape import Shape
from trimtab.compress.search.survey import Survey
from trimtab.errors import UnsupportedError
from trimtab.optimize.original import make_original
from trimtab.recipe.compressing import Cluster
from trimtab.recipe.schema import Compress
from trimtab.settings import Settings
from trimtab.workbench import Workbench

ORT_AND_NNCF = [("quantize", "int8"), ("quantize_openvino", "int8-nncf")]
CODE = """
import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

def split(name):
    n = {"train": 64, "validation": 32, "gate": 32}[name]
    random = np.random.default_rng(sum(map(ord, name)))
    return TensorDataset(torch.from_numpy(random.normal(size=(n, 3, 8, 8)).astype(np.float32)), torch.arange(n) % 3)

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
    def forward(self, x):
        return torch.relu(x + self.two(torch.relu(self.one(x))))

def build():
    return nn.Sequential(nn.Conv2d(3, 16, 3), Block(), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3))

def wide():
    return nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3))

def summed():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))
        def forward(self, x):
            return x.mean((2, 3)) * self.weight
    return Sum()
"""


def bench(folder: Path, model: str = "build") -> Workbench:
    (folder / "net_of_lanes.py").write_text(CODE)
    text = f"name: a\nmodel: net_of_lanes:{model}\ndata: net_of_lanes:split\ntrain: {{epochs: 1, threads: 1}}\n"
    text += "compress: {shorten: {}, prune: {norms: [l2], ratios: [0.5]}}\n"
    (folder / "recipe.yaml").write_text(text)
    return Workbench(folder / "recipe.yaml", Settings(home=folder / "home"))


def test_every_precision_that_a_target_carries_is_a_lane() -> None:
    names = [lane.name for lane in lanes_of(Compress(cluster=Cluster()), ["onnxruntime-cpu", "torchscript-cpu"])]
    assert names == [
        *("fp32 on onnxruntime-cpu", "fp32 on torchscript-cpu"),
        *("int8 on onnxruntime-cpu", "cluster-4 on onnxruntime-cpu"),
    ]


def test_each_target_keeps_its_fastest_lane() -> None:
    lanes = [Lane(None, "a"), Lane(None, "b"), Lane(Step("half", {"label": "fp16"}), "a")]
    latency = {"fp32 on a": 1.0, "fp32 on b": 0.5, "fp16 on a": 0.9}
    assert [lane.name for lane in fastest_of_each_target(lanes, latency)] == ["fp32 on b", "fp16 on a"]


def test_an_int8_that_is_slower_and_no_smaller_than_another_of_its_target_is_not_worth_it() -> None:
    ours = [Lane(Step(m, {"label": label}), "openvino-cpu") for m, label in ORT_AND_NNCF]
    lanes = [Lane(None, "openvino-cpu"), *ours, Lane(ours[0].step, "onnxruntime-cpu")]
    names = [lane.name for lane in lanes]

    def left_out(**changed: LaneFacts) -> set[tuple[str, str]]:
        found = [LaneFacts(1.0, 400), LaneFacts(0.9, 120), LaneFacts(0.5, 110), LaneFacts(2.0, 120)]
        facts = dict(zip(names, found, strict=True))
        return set(not_worth_it(lanes, facts | {names[1]: changed.get("ort", facts[names[1]])}, 0.05))

    assert left_out() == {("int8", "openvino-cpu")}  # FP32 is slower and larger, but loses nothing
    assert left_out(ort=LaneFacts(0.52, 120)) == set()  # within the noise
    assert left_out(ort=LaneFacts(0.9, 100)) == set()  # smaller
    kept = Lane(Step("quantize", {"label": "int8", "max_drop": 0.01}), "openvino-cpu")
    facts = {lanes[2].name: LaneFacts(0.5, 110), kept.name: LaneFacts(0.9, 120)}
    assert not_worth_it([lanes[2], kept], facts, 0.05) == {}  # it is another graph when it is made


def test_a_shape_is_surveyed_cut_and_answers_in_every_lane(tmp_path: Path) -> None:
    opened = bench(tmp_path)
    survey = Survey(opened, opened.keep(make_original(opened)))
    space, notes = survey.space()
    assert set(space.blocks) == {"1", "2"}
    assert set(space.groups) == {"0", "1.one", "2.one"}  # the stem goes with both sums
    assert any("output" in note for note in notes)
    shape = _shape(space.design()[1])

    probe = survey.probe(shape)
    assert probe.divergence > 0
    assert probe.features["macs"] < 0.7
    assert probe.features["layers"] < 1
    lanes = lanes_of(opened.recipe.compress, opened.recipe.targets)
    built, closed = build_lanes(opened, survey.cut(shape), lanes, tmp_path)
    assert not closed
    assert set(built) == {lane.name for lane in lanes}
    sizes = bytes_of(tmp_path, built)
    assert 0 < sizes["fp32 on onnxruntime-cpu"] == (built["fp32 on onnxruntime-cpu"] / "model.onnx").stat().st_size
    for lane in lanes:
        answers = runtime.load(lane.target, built[lane.name], 1).predict(opened.example)["probabilities"]
        assert answers.shape == (4, 3)


def test_the_order_of_blocks_and_channels_changes_which_channels_stay_and_not_the_graph(tmp_path: Path) -> None:
    opened = bench(tmp_path)
    survey = Survey(opened, opened.keep(make_original(opened)))
    with torch.no_grad():  # the block that goes is what holds the first half of the channels up
        survey.module.get_submodule("2.two").weight[:8] += 2.0
    blocks_first = Shape(("2",), {"0": 0.5})

    cuts = {first: survey.cut(replace(blocks_first, first=first)) for first in ("shorten", "prune")}

    assert survey.probe(blocks_first).features == survey.probe(replace(blocks_first, first="prune")).features
    kept = {first: module.get_submodule("0").weight for first, module in cuts.items()}
    assert torch.equal(kept["prune"], survey.module.get_submodule("0").weight[:8])
    assert not torch.equal(kept["shorten"], kept["prune"])


def test_a_candidate_of_either_order_is_kept_and_opened_again_as_it_was_cut(tmp_path: Path) -> None:
    opened = bench(tmp_path)
    original = opened.keep(make_original(opened))
    survey = Survey(opened, original)
    for first in ("shorten", "prune"):
        shape = Shape(("2",), {"0": 0.5}, first=first)
        steps = shape.steps(survey.rounding.round_to, opened.recipe.train.seed)
        assert steps[0].method == first
        again = open_torch(opened, opened.keep(make(opened, original, steps)))
        for name, weight in survey.cut(shape).state_dict().items():
            assert torch.equal(again.state_dict()[name], weight), name


def test_widths_to_measure_a_rounding_on_are_cut_to_the_channel(tmp_path: Path) -> None:
    opened = bench(tmp_path, "wide")
    survey = Survey(opened, opened.keep(make_original(opened)))
    found = {offset: module[0].out_channels for offset, module in survey.widths().items()}
    assert found == {0: 16, 8: 24, 12: 28, 16: 32}


def _shape(parameters: dict[str, object]) -> Shape:
    return Shape(tuple(key[6:] for key, value in parameters.items() if value == "dropped"))


def test_a_lane_that_is_closed_to_a_model_is_said_and_the_others_are_built(tmp_path: Path) -> None:
    opened = bench(tmp_path, "summed")
    survey = Survey(opened, opened.keep(make_original(opened)))
    lanes = lanes_of(opened.recipe.compress, ["onnxruntime-cpu"])

    built, closed = build_lanes(opened, survey.module, lanes, tmp_path)

    assert list(built) == ["fp32 on onnxruntime-cpu"]
    assert len(closed) == 1
    assert "int8 on onnxruntime-cpu: " in closed[0]
    (tmp_path / "again").mkdir()
    with pytest.raises(UnsupportedError, match="int8"):
        build_lanes(opened, survey.module, lanes[1:], tmp_path / "again")


def test_a_model_without_blocks_or_groups_has_an_empty_space_and_reasons(tmp_path: Path) -> None:
    opened = bench(tmp_path, "summed")
    space, notes = Survey(opened, opened.keep(make_original(opened))).space()
    assert space.empty
    assert any("no block can be dropped" in note for note in notes)
