"""Quantization: answers stay near, the ends stay in float, unfit calibration rows are refused with figures."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from pydantic import ValidationError
from torch import Tensor, nn

from trimtab.compress import quantize_dynamic as module
from trimtab.compress.calibration import BATCH, Rows
from trimtab.compress.layer_sensitivity import layer_sensitivity
from trimtab.compress.mse import mse_range
from trimtab.compress.quantize import quantize
from trimtab.compress.quantize_dynamic import DYNAMIC_NOTE
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


class Holed(nn.Module):
    """A NaN among the activations of a row whose pixels are negative, and nowhere else."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(64, 8), nn.Linear(8, 3)

    def forward(self, value: Tensor) -> Tensor:
        flat = value.flatten(1)
        return self.head(self.body(flat) * flat.mean(1, keepdim=True).sqrt())


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
    assert (facts["quantized_nodes"], facts["weights_quantized"]) == (3, 1.0)
    assert (facts["precision"], facts["mode"], facts["calibration"]) == ("int8", "static", "minmax")
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


@pytest.mark.parametrize("calibration", ["minmax", "percentile", "entropy", "mse"])
def test_activations_that_are_nan_for_all_rows_name_the_tensor(
    images: np.ndarray, tmp_path: Path, calibration: str
) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(64, 8), nn.Linear(8, 3)

        def forward(self, value: Tensor) -> Tensor:
            return self.head((-self.body(value.flatten(1)).square() - 1).log())

    path = export(Broken(), Preprocess(), images[:2], tmp_path / "a.onnx")
    settings = Quantize(calibration_rows=64, calibration=calibration)
    with pytest.raises(CalibrationError, match="no finite range") as caught:
        quantize(path, {"input": images}, {"input": images}, settings, tmp_path / "b.onnx")
    assert "Log" in caught.value.where


@pytest.mark.parametrize("calibration", ["minmax", "percentile", "entropy", "mse"])
def test_a_nan_beside_finite_activations_is_passed_over_by_every_calibration(
    images: np.ndarray, tmp_path: Path, calibration: str
) -> None:
    path = export(Holed(), Preprocess(), images[:2], tmp_path / "a.onnx")
    rows = images[:64].copy()
    rows[5] = -1
    assert np.isnan(run(path, rows)).any(1).sum() == 1
    settings = Quantize(calibration_rows=64, calibration=calibration)
    facts = quantize(path, {"input": rows}, {"input": rows}, settings, tmp_path / "b.onnx")
    assert facts["quantized_nodes"] == 2


def test_a_graph_without_weights_is_refused(images: np.ndarray, tmp_path: Path) -> None:
    path = export(nn.Flatten(), Preprocess(scale=0.5), images[:2], tmp_path / "a.onnx")
    with pytest.raises(UnsupportedError, match="0 of 0 weights quantized"):
        quantize(path, {"input": images}, {"input": images}, SETTINGS, tmp_path / "b.onnx")


@pytest.mark.parametrize("calibration", ["percentile", "entropy"])
def test_other_calibrations_take_any_number_of_rows_and_are_not_min_max_by_another_name(
    fp32: Path, int8: Path, images: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str], calibration: str
) -> None:
    outliers = images.copy()
    outliers[3, 0, 0, 0] = 60.0  # one pixel of 8192
    settings = Quantize(calibration_rows=67, minimum_rows=32, calibration=calibration)
    rows = {"input": outliers[:67]}
    facts = quantize(fp32, rows, {"input": outliers}, settings, tmp_path / "other.onnx")
    assert (facts["calibration"], facts["calibration_rows"]) == (calibration, 67)
    quantize(fp32, rows, {"input": outliers}, Quantize(calibration_rows=67), tmp_path / "minmax.onnx")
    assert (tmp_path / "other.onnx").read_bytes() != (tmp_path / "minmax.onnx").read_bytes()
    assert np.abs(run(tmp_path / "other.onnx", images) - run(fp32, images)).max() < 0.03
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("calibration", ["percentile", "entropy", "mse"])
def test_the_range_of_a_relu_has_no_negative_part(
    fp32: Path, images: np.ndarray, tmp_path: Path, calibration: str
) -> None:
    rows = {"input": images}
    quantize(fp32, rows, rows, Quantize(calibration=calibration), tmp_path / "a.onnx")
    graph = onnx.load(tmp_path / "a.onnx").graph
    points = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    after = {out: node.op_type for node in graph.node for out in node.output}
    # ONNX Runtime takes a ReLU out, and leaves the clipping to its quantizer: wrong, were the range half negative.
    quantizers = [
        node for node in graph.node if node.op_type == "QuantizeLinear" and after.get(node.input[0]) in ("Relu", "Conv")
    ]
    assert len(quantizers) == 2
    assert all(points[node.input[2]] == 0 for node in quantizers)


def scales(path: Path) -> list[int]:
    """Number of scales of each layer's integer weights."""
    graph = onnx.load(path).graph
    sizes = {item.name: int(np.prod(item.dims)) for item in graph.initializer}
    large = [node for node in graph.node if node.op_type == "DequantizeLinear" and sizes.get(node.input[0], 0) > 64]
    return [sizes[node.input[1]] for node in large]


def test_per_tensor_is_one_scale_a_layer_and_per_channel_one_an_output(
    fp32: Path, int8: Path, images: np.ndarray, tmp_path: Path
) -> None:
    rows = {"input": images}
    settings = Quantize(calibration_rows=64, per_channel=False)
    assert "per tensor" in quantize(fp32, rows, rows, settings, tmp_path / "tensor.onnx")["weights"]
    assert scales(tmp_path / "tensor.onnx") == [1, 1, 1]
    assert sorted(scales(int8)) == [10, 16, 64]


@pytest.mark.parametrize("per_channel", [True, False])
def test_dynamic_needs_no_rows_and_its_answers_stay_near(
    fp32: Path, images: np.ndarray, tmp_path: Path, per_channel: bool
) -> None:
    out = tmp_path / "dynamic.onnx"
    facts = quantize(fp32, {}, {}, Quantize(mode="dynamic", per_channel=per_channel), out)
    assert (facts["precision"], facts["mode"], facts["calibration"]) == ("int8-dynamic", "dynamic", None)
    assert (facts["quantized_nodes"], facts["weights_quantized"], facts["notes"]) == (3, 1.0, [DYNAMIC_NOTE])
    assert out.stat().st_size < 0.5 * fp32.stat().st_size
    for batch in (1, 3, 17):
        assert np.abs(run(out, images[:batch]) - run(fp32, images[:batch])).max() < 0.02
    integers = [
        numpy_helper.to_array(item)
        for item in onnx.load(out).graph.initializer
        if item.data_type == onnx.TensorProto.INT8 and np.prod(item.dims) > 64
    ]
    assert len(integers) == 3
    assert all(values.min() >= -64 and values.max() <= 64 for values in integers)


def test_convolutions_stay_in_float_where_onnx_runtime_cannot_run_them(
    fp32: Path, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_kernel(path: Path, threads: int) -> None:
        raise RuntimeError("Could not find an implementation for ConvInteger(10)")

    monkeypatch.setattr(module, "open_session", no_kernel)
    facts = quantize(fp32, {}, {}, Quantize(mode="dynamic"), tmp_path / "dynamic.onnx")
    assert facts["quantized_nodes"] == 1
    # 16 · 1 · 9 and 64 · 16 · 9 weights of convolutions, 256 · 10 of the linear layer
    assert facts["weights_quantized"] == pytest.approx(2560 / (144 + 9216 + 2560))
    assert "ConvInteger(10)" in facts["notes"][1]
    assert np.abs(run(tmp_path / "dynamic.onnx", images) - run(fp32, images)).max() < 0.02


def test_dynamic_keeps_columns_of_very_different_scale(tmp_path: Path) -> None:
    spread = np.array([1000.0, 0.001], np.float32)
    table = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32) * spread
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.0, 3.0], [0.0, -3.0]]))
    path = export(model, Preprocess(mean=[0.0, 0.0], std=spread.tolist()), table[:2], tmp_path / "a.onnx")
    quantize(path, {}, {}, Quantize(mode="dynamic"), tmp_path / "b.onnx")
    sure = np.abs(table[:, 1]) > 1e-4
    assert (run(tmp_path / "b.onnx", table)[sure].argmax(1) == (table[sure, 1] < 0)).all()


def test_dynamic_refuses_a_graph_without_weights(images: np.ndarray, tmp_path: Path) -> None:
    path = export(nn.Flatten(), Preprocess(scale=0.5), images[:2], tmp_path / "a.onnx")
    with pytest.raises(UnsupportedError, match="0 of 0 weights quantized"):
        quantize(path, {}, {}, Quantize(mode="dynamic"), tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()


def test_nan_among_activations_is_counted_in_the_notes(images: np.ndarray, tmp_path: Path) -> None:
    path = export(Holed(), Preprocess(), images[:2], tmp_path / "a.onnx")
    rows = images[:64].copy()
    assert quantize(path, {"input": rows}, {"input": rows}, SETTINGS, tmp_path / "b.onnx")["notes"] == []
    rows[[5, 40]] = -1
    notes = quantize(path, {"input": rows}, {"input": rows}, SETTINGS, tmp_path / "b.onnx")["notes"]
    assert len(notes) == 1
    assert re.search(r"passed over for the ranges: 2 in \S*Sqrt\S*, 16 in \S*Mul\S*, 6 in ", notes[0])


class Block(nn.Module):
    """Expansion, depthwise convolution and projection of an inverted residual block with h-swish, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.norm1 = nn.Conv2d(1, 32, 1, bias=False), nn.BatchNorm2d(32)
        self.depthwise, self.norm2 = nn.Conv2d(32, 32, 5, 2, 2, groups=32, bias=False), nn.BatchNorm2d(32)
        self.project, self.head = nn.Conv2d(32, 16, 1), nn.Linear(16, 4)
        with torch.no_grad():  # channels of very different size, which is what per channel is for
            self.norm1.weight.copy_(torch.logspace(-1.5, 1, 32))
            self.norm2.running_var.copy_(torch.logspace(-2, 1, 32))

    def forward(self, value: Tensor) -> Tensor:
        value = nn.functional.hardswish(self.norm1(self.expand(value)))
        value = nn.functional.hardswish(self.norm2(self.depthwise(value)))
        return self.head(self.project(value).mean((2, 3)))


def test_a_depthwise_block_calibrated_on_one_row_is_no_worse_per_channel_and_its_layers_are_ranked(
    images: np.ndarray, tmp_path: Path
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        path = export(Block(), Preprocess(scale=1 / 16), images[:4], tmp_path / "a.onnx")
    errors = {}
    for per_channel in (True, False):
        settings = Quantize(calibration_rows=1, minimum_rows=1, per_channel=per_channel)
        quantize(path, {"input": images[:1]}, {"input": images}, settings, tmp_path / "b.onnx")
        errors[per_channel] = np.abs(run(tmp_path / "b.onnx", images) - run(path, images)).mean()
        ranked = layer_sensitivity(path, {"input": images[:1]}, {"input": images}, settings)
        assert sorted(one.operator for one in ranked if one.weighted) == ["Conv", "Conv", "Conv", "Gemm"]
    assert errors[True] < errors[False]


@pytest.mark.parametrize(("per_channel", "quantized"), [(True, 2), (False, 3)])
def test_a_transposed_convolution_in_groups_stays_in_float_where_the_quantizer_fails_at_it(
    images: np.ndarray, tmp_path: Path, per_channel: bool, quantized: int
) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 8, 3, groups=2), nn.Flatten(), nn.Linear(512, 3)
    )
    path = export(model, Preprocess(scale=1 / 16), images[:2], tmp_path / "a.onnx")
    settings = Quantize(calibration_rows=64, per_channel=per_channel)
    facts = quantize(path, {"input": images}, {"input": images}, settings, tmp_path / "b.onnx")
    assert facts["quantized_nodes"] == quantized
    assert any("ConvTranspose" in name for name in facts["float_nodes"]) is per_channel
    assert np.abs(run(tmp_path / "b.onnx", images) - run(path, images)).max() < 0.02


def test_mse_ranges_are_those_of_the_activations_themselves(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    table = draw.standard_t(3, size=(400, 4)).astype(np.float32)
    model = nn.Sequential(nn.Linear(4, 256), nn.ReLU(), nn.Linear(256, 2))
    path = export(model, Preprocess(), table[:2], tmp_path / "a.onnx")
    rows = {"input": table}
    facts = quantize(path, rows, rows, Quantize(calibration="mse", calibration_rows=400), tmp_path / "b.onnx")
    assert facts["calibration"] == "mse"
    hidden = torch.relu(model[0](torch.from_numpy(table))).detach().numpy()
    _, high = mse_range(*np.histogram(hidden, 1024, range=(-hidden.max(), hidden.max())), 0.0, float(hidden.max()))
    assert high < hidden.max()
    graph = onnx.load(tmp_path / "b.onnx").graph
    figures = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    scales_used = [float(figures[n.input[1]]) for n in graph.node if n.op_type == "QuantizeLinear"]
    assert any(scale == pytest.approx(high / 255, rel=1e-4) for scale in scales_used)


def test_max_drop_wants_rows_to_be_judged_on(fp32: Path, images: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_drop wants labelled rows"):
        quantize(fp32, {"input": images}, {"input": images}, Quantize(max_drop=0.1), tmp_path / "a.onnx")


def test_max_drop_is_refused_in_dynamic_mode_where_it_would_do_nothing() -> None:
    with pytest.raises(ValidationError, match="max_drop is of mode static"):
        Quantize(mode="dynamic", max_drop=0.1)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 200))
def test_the_reader_hands_over_every_row_once_in_batches_of_one_size(count: int) -> None:
    rows = np.arange(count, dtype=np.float32)[:, None]
    batches = [batch["input"] for batch in Rows({"input": rows})]
    np.testing.assert_array_equal(np.concatenate(batches), rows)
    assert len({len(batch) for batch in batches}) == 1
    assert max(len(batch) for batch in batches) <= BATCH
