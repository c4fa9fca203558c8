"""Half-precision weights: half the bytes, FP32 arithmetic, and no weight that float16 cannot hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from trimtab.compress.half import half
from trimtab.convert import onnx_format
from trimtab.convert.graph import deployed
from trimtab.convert.onnx_format import export_onnx
from trimtab.errors import UnsupportedError
from trimtab.recipe.schema import Preprocess

ROWS = np.random.default_rng(0).normal(size=(16, 100)).astype(np.float32)


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(100, 120), nn.ReLU(), nn.Linear(120, 3))


def export(module: nn.Module, path: Path, preprocess: Preprocess | None = None) -> Path:
    export_onnx(deployed(module, preprocess or Preprocess()), {"input": ROWS}, path)
    return path


def run(path: Path, values: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": values})[0]


def test_the_weights_take_half_the_bytes_and_the_answers_are_those_of_the_rounded_weights(tmp_path: Path) -> None:
    module = model()
    facts = half(export(module, tmp_path / "a.onnx"), tmp_path / "b.onnx")
    assert facts["bytes_before"] - facts["bytes_after"] > 0.95 * 2 * 100 * 120
    assert facts["bytes_after"] == (tmp_path / "b.onnx").stat().st_size
    assert (facts["layers"], facts["weights_halved"], facts["underflowed"]) == (2, 1.0, 0)
    with torch.no_grad():
        changes = []
        for layer in (module[0], module[2]):
            rounded = layer.weight.half().float()
            changes.append(float((rounded - layer.weight).abs().max()))
            layer.weight.copy_(rounded)
    assert facts["largest_change"] == max(changes)
    expected = torch.softmax(module(torch.from_numpy(ROWS)), 1).detach().numpy()
    np.testing.assert_allclose(run(tmp_path / "b.onnx", ROWS), expected, atol=1e-6)


def test_the_opened_session_has_no_cast_left(tmp_path: Path) -> None:
    half(export(model(), tmp_path / "a.onnx"), tmp_path / "b.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "opened.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(tmp_path / "b.onnx"), options, providers=["CPUExecutionProvider"])
    opened = onnx.load(tmp_path / "opened.onnx").graph
    assert "Cast" not in [node.op_type for node in opened.node]
    assert onnx.TensorProto.FLOAT16 not in [item.data_type for item in opened.initializer]


@pytest.mark.parametrize("value", [70000.0, -65520.0])
def test_a_weight_beyond_float16_is_refused_with_its_figure(tmp_path: Path, value: float) -> None:
    module = model()
    with torch.no_grad():
        module[0].weight[1, 2] = value
    with pytest.raises(UnsupportedError, match=f"a weight is {value:.6g}, float16 ends at ±65504") as caught:
        half(export(module, tmp_path / "a.onnx"), tmp_path / "b.onnx")
    assert caught.value.where == "initializer module.model.0.weight"
    assert not (tmp_path / "b.onnx").exists()


def test_weights_that_are_nan_are_refused(tmp_path: Path) -> None:
    graph = onnx.load(export(model(), tmp_path / "a.onnx"))
    item = next(item for item in graph.graph.initializer if item.name.endswith("2.weight"))
    values = numpy_helper.to_array(item).copy()
    values[0, :2] = np.nan
    item.CopyFrom(numpy_helper.from_array(values, item.name))
    onnx.save(graph, tmp_path / "a.onnx")
    with pytest.raises(UnsupportedError, match="2 of 360 weights are NaN or infinite"):
        half(tmp_path / "a.onnx", tmp_path / "b.onnx")


def test_weights_that_become_zero_are_counted_and_noted(tmp_path: Path) -> None:
    module = model()
    with torch.no_grad():
        module[0].weight[0, :5] = 1e-9
        module[0].weight[1, :5] = 0.0
    facts = half(export(module, tmp_path / "a.onnx"), tmp_path / "b.onnx")
    assert facts["underflowed"] == 5
    assert facts["notes"] == ["5 weights are too small for float16 and became 0"]


def test_figures_of_preprocessing_beyond_float16_stay_in_fp32(tmp_path: Path) -> None:
    preprocess = Preprocess(mean=np.linspace(1e5, 2e5, 100).tolist(), std=[2.5] * 100)
    half(export(model(), tmp_path / "a.onnx", preprocess), tmp_path / "b.onnx")
    rows = ROWS * np.float32(2.5) + np.linspace(1e5, 2e5, 100, dtype=np.float32)
    np.testing.assert_allclose(run(tmp_path / "b.onnx", rows), run(tmp_path / "a.onnx", rows), atol=2e-3)


def test_a_file_that_would_not_shrink_is_refused_with_sizes_and_removed(tmp_path: Path) -> None:
    no_weights = export(
        nn.Sequential(nn.Unflatten(1, (100, 1)), nn.AdaptiveAvgPool1d(1), nn.Flatten()), tmp_path / "c.onnx"
    )
    with pytest.raises(UnsupportedError, match="would not be smaller"):
        half(no_weights, tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()


def test_weights_too_large_for_one_file_go_to_a_side_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trimtab.compress import graph_weights

    source = export(model(), tmp_path / "a.onnx")
    monkeypatch.setattr(graph_weights, "SINGLE_FILE_BYTES", 1024)
    (tmp_path / "out").mkdir()
    facts = half(source, tmp_path / "out" / "model.onnx")
    side = tmp_path / "out" / "model.onnx.data"
    assert onnx_format.side_files(tmp_path / "out" / "model.onnx") == [side]
    assert facts["bytes_after"] == side.stat().st_size + (tmp_path / "out" / "model.onnx").stat().st_size
    assert run(tmp_path / "out" / "model.onnx", ROWS).shape == (16, 3)
