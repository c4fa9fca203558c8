"""Axes besides the batch that may change: what every target answers at any size, and what is refused by which name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from trimtab import runtime
from trimtab.convert import convert
from trimtab.convert.graph import deployed, spec_of
from trimtab.convert.onnx_format import check_file
from trimtab.errors import ConversionError, UnsupportedError
from trimtab.free_axes import Axes, FreeAxis, axes_of
from trimtab.recipe.schema import Preprocess
from trimtab.runtime.availability import why_unavailable
from trimtab.runtime.door import InputError
from trimtab.runtime.eager import Predictor as Eager
from trimtab.targets import TARGETS

LENGTH = FreeAxis("length", 2, 24)
AXES: Axes = {"tokens": {1: LENGTH}, "mask": {1: LENGTH}}
STEPS: Axes = {"input": {1: FreeAxis("steps", 1, 20)}}
FREE = [name for name, entry in sorted(TARGETS.items()) if entry.free_axes and name != "eager-cpu"]
HERE = [name for name in FREE if not why_unavailable(name)]
FIXED_TARGETS = [name for name, entry in sorted(TARGETS.items()) if not entry.free_axes]


class Tokens(nn.Module):
    """A transformer over tokens that are there, by mask; two named inputs of one length."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(30, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        x = self.block(self.embedding(tokens), src_key_padding_mask=~mask)
        there = mask.unsqueeze(-1).float()
        return self.head((x * there).sum(1) / there.sum(1).clamp(min=1))


class Steps(nn.Module):
    """The mean over steps, then a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean(1))


class Recurrent(Steps):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(4, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.cell(x)[0][:, -1])


class BranchOnLength(Steps):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] > 9:  # the line a user must find
            return self.linear(x.mean(1))
        return -self.linear(x.mean(1))


class CountsTheExample(Steps):
    """Six steps, whatever comes: no Python decision, and only another length shows it."""

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x[:, torch.arange(6) % 6].mean(1))


def tokens(rows: int, length: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    mask = rng.random((rows, length)) < 0.8
    mask[:, 0] = True
    return {"tokens": rng.integers(0, 30, (rows, length)), "mask": mask}


def steps(rows: int, length: int, seed: int = 0) -> dict[str, np.ndarray]:
    return {"input": np.random.default_rng(seed).normal(size=(rows, length, 4)).astype(np.float32)}


def make(target: str, model: nn.Module, example: dict[str, np.ndarray], axes: Axes, out: Path) -> tuple[Eager, object]:
    module, spec = deployed(model, Preprocess()), spec_of(example, 3, axes=axes)
    made = convert("c0", target, module, example, spec, out)
    return Eager(module, spec, threads=1), made


@pytest.mark.parametrize("target", HERE)
def test_named_inputs_of_one_free_length_are_answered_like_eager_at_any_length(target: str, tmp_path: Path) -> None:
    # Four rows of four tokens: an exporter that takes equal sizes for one size would tie the length to the batch.
    eager, _ = make(target, Tokens(), tokens(4, 4), AXES, tmp_path)
    predictor = runtime.load(target, tmp_path, threads=1)
    for rows, length in ((1, 2), (3, 7), (2, 24), (5, 5)):
        asked = tokens(rows, length, seed=length)
        want, have = (one.predict(asked)["probabilities"] for one in (eager, predictor))
        np.testing.assert_allclose(have, want, atol=1e-5, err_msg=f"{rows} rows of {length}")
    with pytest.raises(InputError, match=r"'tokens': length is 25, and may be 2 to 24; expected int64 of shape "):
        predictor.predict(tokens(1, 25))
    with pytest.raises(InputError, match=r"'mask': length is 5, and 4 in 'tokens'"):
        predictor.predict({"tokens": tokens(1, 4)["tokens"], "mask": tokens(1, 5)["mask"]})
    assert json.loads((tmp_path / "spec.json").read_text())["axes"] == {"length": [2, 24]}
    if target == "onnxruntime-cpu":
        graph = onnx.load(tmp_path / "model.onnx").graph
        shapes = [[dim.dim_param for dim in value.type.tensor_type.shape.dim] for value in graph.input]
        assert shapes == [["batch", "length"], ["batch", "length"]]


@pytest.mark.parametrize("target", HERE)
def test_a_recurrent_layer_over_a_free_length_is_answered_like_eager_or_refused_by_name(
    target: str, tmp_path: Path
) -> None:
    if target == "torch-export-cpu":
        with pytest.raises(ConversionError, match=r"writes model\.cell out step by step"):
            make(target, Recurrent(), steps(4, 6), STEPS, tmp_path)
        return
    eager, made = make(target, Recurrent(), steps(4, 6), STEPS, tmp_path)
    predictor = runtime.load(target, tmp_path, threads=1)
    for rows, length in ((1, 1), (3, 6), (2, 20)):
        asked = steps(rows, length, seed=length)
        want, have = (one.predict(asked)["probabilities"] for one in (eager, predictor))
        np.testing.assert_allclose(have, want, atol=1e-5, err_msg=f"{rows} rows of {length}")
    if target == "onnxruntime-cpu":
        assert "exporter: torch.onnx on TorchScript" in " ".join(made.notes)


@pytest.mark.parametrize("target", [name for name in HERE if name != "torchscript-cpu"])
def test_a_branch_on_the_length_is_refused_with_its_line(target: str, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"the size of 'steps'") as refused:
        make(target, BranchOnLength(), steps(4, 6), STEPS, tmp_path)
    assert "if x.shape[1] > 9:" in str(refused.value)


def test_a_branch_on_the_length_is_scripted_for_torchscript(tmp_path: Path) -> None:
    eager, made = make("torchscript-cpu", BranchOnLength(), steps(4, 6), STEPS, tmp_path)
    assert "torch.jit.script" in made.notes[0]
    predictor = runtime.load("torchscript-cpu", tmp_path, threads=1)
    for length in (1, 9, 10, 20):
        asked = steps(3, length)
        want, have = (one.predict(asked)["probabilities"] for one in (eager, predictor))
        np.testing.assert_allclose(have, want, atol=1e-6)


def test_a_length_that_became_a_number_of_the_example_is_refused(tmp_path: Path) -> None:
    example = steps(4, 6)
    example["input"][:, 0] *= 9  # or a mean over a part would be that over all
    with pytest.raises(ConversionError) as refused:
        make("torchscript-cpu", NumberOfTheExample(), example, STEPS, tmp_path)
    assert "steps" in str(refused.value)


class NumberOfTheExample(Steps):
    def forward(self, x: Tensor) -> Tensor:
        count = len(x[0].unbind()) if torch.jit.is_tracing() else x.shape[1]  # unbind leaves no warning
        return self.linear(x.sum(1) / count)


def test_a_model_that_cannot_take_every_length_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"the module itself cannot run at steps 1: .*") as refused:
        make("torchscript-cpu", CountsTheExample(), steps(4, 6), STEPS, tmp_path)
    assert "every size between min and max" in str(refused.value)


@pytest.mark.parametrize("target", FIXED_TARGETS)
def test_targets_of_fixed_shapes_refuse_a_free_axis_before_anything_is_written(target: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"cannot hold steps as a free axis") as refused:
        make(target, Steps(), steps(4, 6), STEPS, tmp_path)
    assert TARGETS[target].why_fixed in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_a_file_whose_axis_came_out_fixed_is_not_taken(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["input"], ["probabilities"])],
        "fixed",
        [value("input", onnx.TensorProto.FLOAT, ["batch", 6, 4])],
        [value("probabilities", onnx.TensorProto.FLOAT, ["batch", 6, 4])],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]), tmp_path / "a.onnx")
    check_file(tmp_path / "a.onnx", ["input"])
    with pytest.raises(ConversionError, match=r"the size of \['steps'\] of 'input' came out fixed"):
        check_file(tmp_path / "a.onnx", ["input"], axes=axes_of(spec_of(steps(2, 6), 3, axes=STEPS)))
