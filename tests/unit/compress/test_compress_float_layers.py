"""Layers left in float stay so on the runtime: its default optimizations change no answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnxruntime import GraphOptimizationLevel
from torch import nn

from trimtab.compress.float_layers import keep_float
from trimtab.compress.quantize_static import calibrate
from trimtab.recipe.schema import Quantize
from trimtab.runtime.openvino_cpu import openvino

CHANNELS = 6


def spoilt(kind: str, bias: bool) -> nn.Module:
    """A network whose second layer has weights that 8 bits a tensor cannot hold: one is a thousand times the others.

    It meets values that are 0, so that all that the other weights do would be lost, and nothing else.
    """
    first, last = (
        (nn.Linear(2, CHANNELS), nn.Linear(CHANNELS, 3))
        if kind == "Gemm"
        else (nn.Conv2d(2, CHANNELS, 1), nn.Conv2d(CHANNELS, 3, 4))
    )
    middle = {
        "Conv": lambda: nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=bias),
        "ConvTranspose": lambda: nn.ConvTranspose2d(CHANNELS, CHANNELS, 3, padding=1, bias=bias),
        "Gemm": lambda: nn.Linear(CHANNELS, CHANNELS, bias=True),
    }[kind]()
    with torch.no_grad():
        for value in (first.weight, first.bias):
            value[0] = 0
        (middle.weight[:, 0] if kind != "ConvTranspose" else middle.weight[0]).fill_(5000.0)
    return nn.Sequential(first, nn.ReLU(), middle, nn.ReLU(), last, nn.Flatten(), nn.Softmax(1))


def answered(graph: onnx.ModelProto, rows: np.ndarray, level: GraphOptimizationLevel) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": rows})[0]


@pytest.mark.parametrize(
    ("kind", "bias"),
    [("Conv", True), ("Conv", False), ("ConvTranspose", True), ("ConvTranspose", False), ("Gemm", True)],
)
def test_a_layer_left_in_float_is_not_quantized_by_the_runtime(tmp_path: Path, kind: str, bias: bool) -> None:
    rows = np.random.default_rng(0).normal(size=(64, 2) if kind == "Gemm" else (64, 2, 4, 4)).astype(np.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = spoilt(kind, bias).eval()
    path = tmp_path / "fp32.onnx"
    names = {"input_names": ["input"], "output_names": ["probabilities"], "dynamic_axes": {"input": {0: "batch"}}}
    torch.onnx.export(model, (torch.from_numpy(rows[:2]),), str(path), **names, dynamo=False, opset_version=17)
    calibrated = calibrate(path, {"input": rows}, Quantize(), tmp_path)
    layer = [node for node in calibrated.before.graph.node if node.op_type in ("Conv", "ConvTranspose", "Gemm")][1]
    graph = calibrated.written(without=[layer.name])
    onnx.checker.check_model(graph, full_check=True)
    exact = answered(calibrated.before, rows, GraphOptimizationLevel.ORT_DISABLE_ALL)
    near = 0.2 * np.ptp(exact, axis=0).max()
    for level in (GraphOptimizationLevel.ORT_DISABLE_ALL, GraphOptimizationLevel.ORT_ENABLE_ALL):
        assert np.abs(answered(graph, rows, level) - exact).max() < near
    onnx.save(graph, tmp_path / "mixed.onnx")
    compiled = openvino.Core().compile_model(str(tmp_path / "mixed.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert np.abs(compiled(rows)[0] - exact).max() < near


def test_biases_are_kept_to_float_precision_and_layers_in_integers_are_let_alone() -> None:
    bias = np.random.default_rng(0).normal(size=CHANNELS).astype(np.float32) * np.logspace(-6, 3, CHANNELS)
    bias = bias.astype(np.float32)
    constants = {
        "scale": np.float32(0.1),
        "zero": np.uint8(0),
        "weight": np.ones((CHANNELS, 2), np.float32),
        "bias": bias,
        "integers": np.ones((CHANNELS, CHANNELS), np.int8),
        "zero8": np.int8(0),
    }
    make = onnx.helper.make_node
    graph = onnx.helper.make_graph(
        [
            make("QuantizeLinear", ["input", "scale", "zero"], ["q"]),
            make("DequantizeLinear", ["q", "scale", "zero"], ["dq"]),
            make("Gemm", ["dq", "weight", "bias"], ["hidden"], "left", transB=1),
            make("QuantizeLinear", ["hidden", "scale", "zero"], ["q2"]),
            make("DequantizeLinear", ["q2", "scale", "zero"], ["dq2"]),
            make("DequantizeLinear", ["integers", "scale", "zero8"], ["weight2"]),
            make("Gemm", ["dq2", "weight2", "bias"], ["output"], "done", transB=1),
        ],
        "two layers",
        [onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, [None, 2])],
        [onnx.helper.make_tensor_value_info("hidden", onnx.TensorProto.FLOAT, [None, CHANNELS])],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    assert keep_float(model) == ["left"]
    found = answered(model, np.zeros((1, 2), np.float32), GraphOptimizationLevel.ORT_DISABLE_ALL)[0]
    np.testing.assert_allclose(found, bias, rtol=1e-6, atol=np.abs(bias).max() * 2**-30)
    assert list(model.graph.node[-1].input) == ["dq2", "weight2", "bias"]
