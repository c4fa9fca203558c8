"""Quantization: answers stay near, the ends stay in float, unfit calibration rows are refused with figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from trimtab.compress.quantize import quantize
from trimtab.errors import CalibrationError, UnsupportedError
from trimtab.optimize.architectures.cnn import cnn
from trimtab.optimize.architectures.mlp import mlp
from trimtab.preprocess import logits
from trimtab.recipe.schema import Preprocess, Quantize

SETTINGS = Quantize(calibration_rows=64)


class Graph(nn.Module):
    def __init__(self, model: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.model, self.preprocess = model, preprocess

    def forward(self, value: Tensor) -> Tensor:
        return logits(self.model, {"input": value}, self.preprocess).softmax(1)


def export(model: nn.Module, preprocess: Preprocess, example: np.ndarray, path: Path) -> Path:
    axes = {"input": {0: "batch"}, "probabilities": {0: "batch"}}
    torch.onnx.export(
        Graph(model, preprocess).eval(),
        (torch.from_numpy(example),),
        str(path),
        **{"input_names": ["input"], "output_names": ["probabilities"], "dynamic_axes": axes},
        dynamo=False,
        opset_version=17,
    )
    return path


def run(path: Path, values: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": values})[0]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 17, size=(128, 1, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def fp32(images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = cnn(1, 10, widths=(16, 64))
    return export(model, Preprocess(scale=1 / 16), images[:4], tmp_path_factory.mktemp("onnx") / "fp32.onnx")


@pytest.fixture(scope="module")
def int8(fp32: Path, images: np.ndarray) -> Path:
    quantize(fp32, {"input": images}, {"input": images}, SETTINGS, fp32.with_name("int8.onnx"))
    return fp32.with_name("int8.onnx")


def test_probabilities_stay_near_and_any_batch_runs(fp32: Path, int8: Path, images: np.ndarray) -> None:
    for batch in (1, 3, 17):
        assert np.abs(run(int8, images[:batch]) - run(fp32, images[:batch])).max() < 0.02
    np.testing.assert_allclose(run(int8, images).sum(1), 1, rtol=1e-5)


def test_weights_are_seven_bit_integers_and_the_file_is_smaller(fp32: Path, int8: Path) -> None:
    integers = [
        numpy_helper.to_array(item)
        for item in onnx.load(int8).graph.initializer
        if item.data_type == onnx.TensorProto.INT8 and item.dims and np.prod(item.dims) > 64
    ]
    assert len(integers) == 3
    # 2 * 255 * 64 fits into 16 bits, so that no kernel without VNNI can saturate.
    assert all(values.min() >= -64 and values.max() <= 64 for values in integers)
    assert int8.stat().st_size < 0.6 * fp32.stat().st_size


def test_preprocessing_and_softmax_stay_in_float(int8: Path) -> None:
    graph = onnx.load(int8).graph
    made_by = {out: node for node in graph.node for out in node.output}
    softmax = next(node for node in graph.node if node.op_type == "Softmax")
    scaling = next(node for node in graph.node if node.op_type == "Mul")
    assert made_by[softmax.input[0]].op_type == "Gemm"
    assert "input" in scaling.input
    read = {name for node in graph.node for name in node.input}
    assert all(item.name in read for item in graph.initializer)


def test_columns_of_very_different_scale_survive(tmp_path: Path) -> None:
    spread = np.array([1000.0, 0.001], np.float32)
    table = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32) * spread
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.0, 3.0], [0.0, -3.0]]))  # only the small column decides
    path = export(model, Preprocess(mean=[0.0, 0.0], std=spread.tolist()), table[:2], tmp_path / "a.onnx")
    quantize(path, {"input": table}, {"input": table}, SETTINGS, tmp_path / "b.onnx")
    sure = np.abs(table[:, 1]) > 1e-4
    assert (run(tmp_path / "b.onnx", table)[sure].argmax(1) == (table[sure, 1] < 0)).all()


def test_facts_say_what_was_done(fp32: Path, images: np.ndarray, tmp_path: Path) -> None:
    rows = {"input": images}
    facts = quantize(fp32, rows, rows, Quantize(calibration_rows=300), tmp_path / "o.onnx")
    assert (facts["calibration_rows"], facts["calibration_rows_requested"]) == (128, 300)
    assert facts["notes"] == ["calibrated on 128 rows, fewer than the 300 asked for"]
    assert facts["quantized_nodes"] == 3
    assert quantize(fp32, rows, rows, SETTINGS, tmp_path / "p.onnx")["notes"] == []


def test_the_same_rows_give_the_same_bytes(fp32: Path, int8: Path, images: np.ndarray, tmp_path: Path) -> None:
    quantize(fp32, {"input": images}, {"input": images}, SETTINGS, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == int8.read_bytes()


@pytest.mark.parametrize("count", [0, 10])
def test_too_few_rows_are_refused_with_the_count(fp32: Path, images: np.ndarray, tmp_path: Path, count: int) -> None:
    with pytest.raises(CalibrationError, match=f"there are {count} rows, at least 32 are needed"):
        quantize(fp32, {"input": images[:count]}, {"input": images}, SETTINGS, tmp_path / "o.onnx")
    assert not (tmp_path / "o.onnx").exists()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_refused_with_the_first(
    fp32: Path, images: np.ndarray, tmp_path: Path, bad: float
) -> None:
    rows = images[:64].copy()
    rows[[5, 9], 0, 0, 0] = bad
    with pytest.raises(CalibrationError, match="2 of 64 rows hold NaN or infinity, first at row 5"):
        quantize(fp32, {"input": rows}, {"input": images}, SETTINGS, tmp_path / "o.onnx")


@pytest.mark.parametrize("factor", [1 / 16, 16.0])
def test_rows_scaled_once_more_or_less_than_training_are_refused_with_ranges(
    fp32: Path, images: np.ndarray, tmp_path: Path, factor: float
) -> None:
    rows = images * np.float32(factor)
    with pytest.raises(CalibrationError, match=rf"{16 * factor:g} .*in training it is 0 … 16"):
        quantize(fp32, {"input": rows}, {"input": images}, SETTINGS, tmp_path / "o.onnx")


def test_a_single_column_of_another_scale_is_named(tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    path = export(mlp(3, 2, hidden=(8,)), Preprocess(), table[:2], tmp_path / "a.onnx")
    rows = table[:64].copy()
    rows[:, 1] *= 100
    with pytest.raises(CalibrationError, match="the range is") as caught:
        quantize(path, {"input": rows}, {"input": table}, SETTINGS, tmp_path / "b.onnx")
    assert caught.value.where == "calibration: input, column 1"


def test_samples_of_skewed_and_sparse_columns_are_taken(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    table = np.stack([draw.lognormal(0, 1.5, 2000), draw.random(2000) < 0.01, np.ones(2000)], 1).astype(np.float32)
    path = export(mlp(3, 2, hidden=(8,)), Preprocess(), table[:2], tmp_path / "a.onnx")
    for seed in range(10):
        rows = table[np.random.default_rng(seed).choice(2000, 64, replace=False)]
        quantize(path, {"input": rows}, {"input": table}, SETTINGS, tmp_path / "b.onnx")


def test_activations_that_are_nan_for_all_rows_name_the_tensor(images: np.ndarray, tmp_path: Path) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(64, 8), nn.Linear(8, 3)

        def forward(self, value: Tensor) -> Tensor:
            return self.head((-self.body(value.flatten(1)).square() - 1).log())

    path = export(Broken(), Preprocess(), images[:2], tmp_path / "a.onnx")
    with pytest.raises(CalibrationError, match="no finite range") as caught:
        quantize(path, {"input": images}, {"input": images}, SETTINGS, tmp_path / "b.onnx")
    assert "Log" in caught.value.where


def test_a_graph_without_weights_is_refused(images: np.ndarray, tmp_path: Path) -> None:
    path = export(nn.Flatten(), Preprocess(scale=0.5), images[:2], tmp_path / "a.onnx")
    with pytest.raises(UnsupportedError, match="0 layers can be quantized"):
        quantize(path, {"input": images}, {"input": images}, SETTINGS, tmp_path / "b.onnx")
