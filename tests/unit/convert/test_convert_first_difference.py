"""The first layer that differs: found through what converters fold, fuse and take apart, and only when asked for."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from trimtab.convert import check, convert, first_difference
from trimtab.convert.difference import FirstDifference
from trimtab.convert.first_difference import locate
from trimtab.convert.graph import deployed, output_of, spec_of
from trimtab.convert.layers import Value, layer_values
from trimtab.convert.opened import Operation, operations
from trimtab.errors import ConversionError
from trimtab.recipe.schema import Preprocess
from trimtab.runtime.eager import Predictor as Eager

TARGETS = ["onnxruntime-cpu", "openvino-cpu", "torch-export-cpu", "torchscript-cpu"]
ROWS = {"input": np.random.default_rng(0).standard_normal((4, 2, 6, 6)).astype(np.float32)}


class Residual(nn.Module):
    """conv, norm, activation, and a branch beside it; attention over the positions at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.side = nn.Conv2d(2, 8, 1)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)
        with torch.no_grad():
            self.norm.running_mean.uniform_(-1, 1)  # type: ignore[operator,union-attr]

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x))) + self.side(x)
        x = x.flatten(2).transpose(1, 2)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(x.mean(1))


class OptionA(nn.Module):
    """A shortcut that slices and pads, which is a convolution in what ONNX and OpenVINO are given."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(self.conv(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)))
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    return deployed(Residual(), Preprocess())


@pytest.fixture(scope="module", params=TARGETS)
def right(request: pytest.FixtureRequest, module: nn.Module, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp(request.param)
    convert("c0", request.param, module, ROWS, spec_of(ROWS, 3), folder)
    return request.param, folder


def with_another(module: nn.Module, weight: str, target: str, folder: Path) -> FirstDifference:
    """The module is changed instead of the file: the folder is then a conversion of other weights, in every format."""
    parameter = module.get_parameter(weight)
    held = parameter.detach().clone()
    try:
        with torch.no_grad():
            parameter.copy_(0.3 - held.flip(0))
        found = first_difference.first_difference(module, target, folder, ROWS)
    finally:
        with torch.no_grad():
            parameter.copy_(held)
    assert isinstance(found, FirstDifference), found
    return found


@pytest.mark.parametrize(
    ("weight", "layer"),
    [
        ("conv.weight", "model.conv"),
        ("norm.bias", "model.conv|model.norm"),  # one operation, once the norm is folded into the convolution
        ("side.weight", "model.side"),
        ("attention.in_proj_weight", "model.attention"),
        ("head.weight", "model.head"),
    ],
)
def test_the_layer_with_other_weights_is_named_in_every_format(
    right: tuple[str, Path], module: nn.Module, weight: str, layer: str
) -> None:
    found = with_another(module, f"model.{weight}", *right)
    assert re.match(layer, found.layer), found
    assert found.expected is not None
    assert found.given is not None
    assert abs(found.expected - found.given) == pytest.approx(found.max_abs)


@pytest.mark.parametrize("target", TARGETS)
def test_the_layer_is_found_where_a_shortcut_became_a_convolution(target: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = deployed(OptionA(), Preprocess())
    made = convert("c0", target, module, ROWS, spec_of(ROWS, 3), tmp_path)
    assert any("1x1 convolutions" in note for note in made.notes) == (target in ("onnxruntime-cpu", "openvino-cpu"))
    for weight in ("stem", "conv", "head"):
        found = with_another(module, f"model.{weight}.weight", target, tmp_path)
        assert found.layer.startswith(f"model.{weight} ("), found


@pytest.mark.parametrize("target", TARGETS)
def test_the_last_layer_of_a_regression_is_found_though_nothing_follows_it(target: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.ReLU(), nn.Linear(64, 1), nn.Flatten(0))
    module = deployed(body, Preprocess(), regression=True)
    convert("c0", target, module, ROWS, spec_of(ROWS, 1, output_of(module)), tmp_path)
    assert "answers right" in str(first_difference.first_difference(module, target, tmp_path, ROWS))
    assert with_another(module, "model.3.weight", target, tmp_path).layer.startswith("model.3 (Linear")
    assert "softmax" not in {value.layer for value in layer_values(module, ROWS)}


def test_a_graph_that_is_right_is_said_to_be_right(right: tuple[str, Path], module: nn.Module) -> None:
    found = first_difference.first_difference(module, *right, ROWS)
    assert isinstance(found, str)
    assert "with every intermediate result kept the graph answers right" in found


def test_what_is_opened_ends_with_the_answer_that_the_predictor_gives(
    right: tuple[str, Path], module: nn.Module
) -> None:
    target, folder = right
    answer = operations(target, folder, ROWS)[-1].array
    expected = Eager(module, spec_of(ROWS, 3), threads=1).predict(ROWS)["probabilities"]
    assert answer is not None
    np.testing.assert_allclose(answer, expected, atol=1e-5)


@pytest.mark.parametrize("right", ["onnxruntime-cpu"], indirect=True)
def test_the_error_of_a_conversion_has_the_layer_and_both_values(
    right: tuple[str, Path], module: nn.Module, tmp_path: Path
) -> None:
    shutil.copytree(right[1], tmp_path, dirs_exist_ok=True)
    model = onnx.load(str(tmp_path / "model.onnx"))
    held = next(one for one in model.graph.initializer if one.name == "module.model.head.weight")
    held.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(held), held.name))
    onnx.save(model, str(tmp_path / "model.onnx"))
    with pytest.raises(
        ConversionError, match=r"first differs at model\.head \(Linear.*it should be .* and is "
    ) as caught:
        check("onnxruntime-cpu", module, ROWS, spec_of(ROWS, 3), tmp_path)
    assert "batch 1" in caught.value.what


def test_a_folder_that_cannot_be_opened_is_a_sentence_and_no_exception(module: nn.Module, tmp_path: Path) -> None:
    for target in TARGETS:
        said = first_difference.first_difference(module, target, tmp_path, ROWS)
        assert str(said).startswith("layers cannot be compared"), said
    assert "does not give its intermediate results" in str(
        first_difference.first_difference(module, "abacus", tmp_path, ROWS)
    )


def test_hooks_are_gone_and_attention_is_as_before_once_layers_were_recorded(module: nn.Module) -> None:
    fast = torch.backends.mha.get_fastpath_enabled()
    values = layer_values(module, ROWS)
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in module.modules())
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert values[-1].layer == "the answer"
    assert {"model.conv", "model.norm", "model", "softmax"} <= {value.layer for value in values}


def _array(seed: int, size: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((3, size)).astype(np.float32)


def test_a_wrong_branch_beside_a_right_one_is_the_one_that_is_named() -> None:
    x, left, right, total = (_array(seed) for seed in range(4))
    original = [Value("input 'x'", "", x), Value("left", "A", left), Value("right", "B", right)]
    original += [Value("sum", "C", total), Value("the answer", "", total)]
    graph = [
        Operation("r", "B", ("x",), "", right),
        Operation("l", "A", ("x",), "", left + np.float32(0.01)),
        Operation("s", "C", ("l", "r"), "", total + np.float32(0.01)),
    ]
    found = locate(original, graph)
    assert isinstance(found, FirstDifference)
    assert (found.layer, found.operation) == ("left (A)", "A 'l'")
    assert found.max_abs == pytest.approx(0.01, abs=1e-6)


def test_steps_that_the_original_does_not_take_are_no_difference() -> None:
    x, normed, answer = (_array(seed) for seed in range(3))
    original = [Value("input 'x'", "", x), Value("norm", "LayerNorm", normed), Value("head", "Linear", answer)]
    original.append(Value("the answer", "", answer))
    graph = [
        Operation("centred", "Sub", ("x",), "", _array(7)),
        Operation("scaled", "Div", ("centred",), "", normed),
        Operation("y", "Gemm", ("scaled",), "", answer * 2),
    ]
    found = locate(original, graph)
    assert isinstance(found, FirstDifference)
    assert found.layer == "head (Linear)"
    assert found.agrees == ("norm (LayerNorm)",)
    assert json.loads(json.dumps(found.to_json()))["layer"] == "head (Linear)"
