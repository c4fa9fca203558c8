"""Mixed precision: the layer that INT8 spoils is found and stays in float, and no other does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from trimtab.compress import mixed_precision as module
from trimtab.compress.layer_sensitivity import Sensitivity, layer_sensitivity
from trimtab.compress.quantize import quantize
from trimtab.data import Split
from trimtab.errors import UnsupportedError
from trimtab.recipe.schema import Quantize

OUTLIER = 3000.0


class Network(nn.Module):
    """Three linear layers with ReLU between; those in `spoilt` have a weight so large that 7 bits lose the others.

    The large weights meet an input that is 0 for every row, so that they change no answer in float.
    """

    def __init__(self, spoilt: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 4)])
        with torch.no_grad():
            for place, layer in enumerate(self.layers):
                if place < 2:
                    layer.weight[0], layer.bias[0] = 0.0, 0.0  # the next layer's input 0
                if place in spoilt:
                    layer.weight[:, 0] = OUTLIER
                    if place < 2:
                        layer.weight[0, 0] = 0.0

    def logits(self, value: Tensor) -> Tensor:
        first, second, last = self.layers
        return last(second(first(value).relu()).relu())

    def forward(self, value: Tensor) -> Tensor:
        return self.logits(value).softmax(1)


def made(folder: Path, *spoilt: int) -> tuple[Path, Split]:
    """A network's graph, and rows labelled with its own answers: in float it is always right."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(spoilt).eval()
    values = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
    values[:, 0] = 0
    with torch.no_grad():  # every class is the answer for some rows
        network.layers[2].bias -= network.logits(torch.from_numpy(values)).mean(0)
    path = folder / "fp32.onnx"
    torch.onnx.export(
        network,
        (torch.from_numpy(values[:2]),),
        str(path),
        input_names=["input"],
        output_names=["probabilities"],
        dynamic_axes={"input": {0: "batch"}},
        dynamo=False,
        opset_version=17,
    )
    return path, Split("validation", {"input": values}, answered(path, values), ())


def answered(path: Path, values: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": values})[0].argmax(1).astype(np.int64)


def float_layers(path: Path) -> list[str]:
    """Names of the linear layers that read weights in float."""
    graph = onnx.load(path).graph
    dequantized = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    return [node.name for node in graph.node if node.op_type == "Gemm" and node.input[1] not in dequantized]


@pytest.mark.parametrize("spoilt", [0, 1, 2])
def test_exactly_the_layer_that_int8_spoils_stays_in_float(tmp_path: Path, spoilt: int) -> None:
    path, rows = made(tmp_path, spoilt)
    names = [node.name for node in onnx.load(path).graph.node if node.op_type == "Gemm"]
    out = tmp_path / "int8.onnx"
    plain = quantize(path, rows.inputs, rows.inputs, Quantize(), out)
    assert plain["mixed_precision"] is None
    assert (answered(out, rows.inputs["input"]) == rows.labels).mean() < 0.8
    facts = quantize(path, rows.inputs, rows.inputs, Quantize(max_drop=0.1), out, rows)
    found = facts["mixed_precision"]
    assert float_layers(out) == [one["node"] for one in found["kept_in_float"]] == [names[spoilt]]
    assert facts["quantized_nodes"] == 2
    assert found["accuracy_float"] == 1.0
    assert found["accuracy"] == (answered(out, rows.inputs["input"]) == rows.labels).mean() >= 0.9
    assert {one["in_float"]: one["accuracy"] for one in found["tried"]}[0] < 0.8
    assert found["rows"] == 400


def test_nothing_stays_in_float_where_the_margin_is_met_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rows = made(tmp_path)
    monkeypatch.setattr(module, "sensitivities", lambda _: pytest.fail("ranked for nothing"))
    facts = quantize(path, rows.inputs, rows.inputs, Quantize(max_drop=0.1), tmp_path / "mixed.onnx", rows)
    quantize(path, rows.inputs, rows.inputs, Quantize(), tmp_path / "plain.onnx")
    assert (tmp_path / "mixed.onnx").read_bytes() == (tmp_path / "plain.onnx").read_bytes()
    assert facts["mixed_precision"]["kept_in_float"] == []
    assert [one["in_float"] for one in facts["mixed_precision"]["tried"]] == [0]


def test_a_network_of_which_no_layer_can_be_in_int8_is_refused_with_the_accuracies(tmp_path: Path) -> None:
    path, rows = made(tmp_path, 0, 1, 2)
    with pytest.raises(UnsupportedError, match=r"no layer can be in INT8 within 0.1: accuracy is 1.0000 in float"):
        quantize(path, rows.inputs, rows.inputs, Quantize(max_drop=0.1), tmp_path / "int8.onnx", rows)
    assert not (tmp_path / "int8.onnx").exists()


def test_sensitivity_names_every_layer_and_puts_the_spoilt_one_first(tmp_path: Path) -> None:
    path, rows = made(tmp_path, 1)
    names = [node.name for node in onnx.load(path).graph.node if node.op_type == "Gemm"]
    found = layer_sensitivity(path, rows.inputs, rows.inputs, Quantize())
    assert found[0].node == names[1]
    assert {one.node for one in found} == set(names)
    assert all(one.weighted for one in found)
    ratios = [one.sqnr_db for one in found]
    assert ratios == sorted(ratios)
    assert ratios[0] < 15 < 25 < ratios[1]


def test_the_activation_after_a_layer_goes_with_it(tmp_path: Path) -> None:
    path, rows = made(tmp_path)
    graph = onnx.load(path).graph
    after = {node.input[0]: node.name for node in graph.node if node.op_type == "Relu"}
    expected = {
        node.name: (after[node.output[0]],) if node.output[0] in after else ()
        for node in graph.node
        if node.op_type == "Gemm"
    }
    found = layer_sensitivity(path, rows.inputs, rows.inputs, Quantize())
    assert {one.node: one.follows for one in found} == expected


@pytest.mark.parametrize(
    ("needed", "steps"), [(1, 4), (5, 4), (9, 4)], ids=["the first alone", "the first five", "all but the last"]
)
def test_bisection_finds_the_least_number_in_few_steps(
    monkeypatch: pytest.MonkeyPatch, needed: int, steps: int
) -> None:
    ranked = [Sensitivity(f"layer{place}", "Conv", True, (), float(place)) for place in range(10)]
    monkeypatch.setattr(module, "sensitivities", lambda _: ranked)
    monkeypatch.setattr(module, "_accuracy", accuracy_of(needed))
    graph, found = module.keep_within(Stub(), Split("validation", {}, np.zeros(100, np.int64), ()), 0.0)
    assert graph == needed
    assert [one.node for one in found.kept] == [f"layer{place}" for place in range(needed)]
    assert len(found.tried) <= 1 + steps
    assert (found.accuracy, found.accuracy_float) == (0.9, 0.9)


class Stub:
    """A calibrated graph whose forms are the number of layers in float: 0 for the full one, -1 for FP32."""

    full, before = 0, -1

    def written(self, without: list[str]) -> int:
        return len(without)


def accuracy_of(needed: int) -> Callable[[int, Split], float]:
    return lambda graph, _: 0.9 if graph == -1 or graph >= needed else 0.5
