"""Quantization-aware training: the file has what was trained, answers as the simulation does, and recovers accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
import torch
from onnx import numpy_helper
from onnxruntime.quantization.calibrate import load_tensors_data
from torch import Tensor, nn

from trimtab.compress.learned_ranges import Ranges, put_into
from trimtab.compress.qat import Trained, simulation, train_quantized
from trimtab.compress.quantize import quantize
from trimtab.compress.simulate import Simulated
from trimtab.convert.graph import deployed
from trimtab.convert.onnx_format import export_onnx
from trimtab.data import Split, from_arrays
from trimtab.errors import ModelError, UnsupportedError
from trimtab.preprocess import logits
from trimtab.recipe.schema import Preprocess, Qat, Quantize
from trimtab.runtime.onnxruntime_cpu import open_session

SCALED = Preprocess(scale=0.5)
STATIC = Quantize(calibration_rows=64)


class Residual(nn.Module):
    """What makes it hard: a batch norm to fold, depthwise, in-place operators, a sum, a linear layer, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.depthwise, self.norm = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8)
        self.pointwise = nn.Conv2d(8, 8, 1)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(8, 3)

    def forward(self, value: Tensor) -> Tensor:
        value = self.stem(value)
        inner = self.pointwise(torch.relu_(self.norm(self.depthwise(value))))
        inner += value
        return self.head(self.drop(torch.relu(inner).mean((2, 3))))


def residual() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Residual()
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.weight, 0.5, 2)
                layer.running_mean.normal_()  # type: ignore[union-attr]
                layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return model.eval()


def forward(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return logits(model, inputs, SCALED)


def export(model: nn.Module, preprocess: Preprocess, train: Split, path: Path) -> Path:
    export_onnx(deployed(model, preprocess), {name: values[:4] for name, values in train.inputs.items()}, path)
    return path


@dataclass(frozen=True)
class Made:
    """A training and what was written from it."""

    model: nn.Module
    trained: Trained
    simulated: Simulated
    train: Split
    float_file: Path
    file: Path
    graph: onnx.ModelProto

    def constant(self, name: str) -> np.ndarray:
        [found] = [item for item in self.graph.graph.initializer if item.name == name]
        return numpy_helper.to_array(found)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("qat")
    rows = np.random.default_rng(0).normal(size=(96, 1, 8, 8)).astype(np.float32)
    train = from_arrays("train", {"input": rows}, np.arange(96) % 3)
    model = residual()
    settings = Qat(epochs=2, lr=1e-2, observe=1.0, threads=1)
    trained = train_quantized(model, train, train, settings, STATIC, SCALED, forward, seed=0)
    plain = export(model, SCALED, train, folder / "fp32.onnx")
    quantize(plain, train.inputs, train.inputs, STATIC, folder / "int8.onnx", learned=trained.ranges)
    simulated, _ = simulation(model, train, STATIC, SCALED, observed_steps=0)
    for tensor, (low, high) in trained.ranges.items():
        rounding = simulated.graph.get_submodule(simulated.ranges[tensor])
        rounding.low.fill_(low)  # type: ignore[operator, union-attr]
        rounding.high.fill_(high)  # type: ignore[operator, union-attr]
    graph = onnx.load(folder / "int8.onnx")
    return Made(model, trained, simulated.eval(), train, plain, folder / "int8.onnx", graph)


def test_every_place_that_the_file_rounds_is_trained_with(made: Made) -> None:
    coverage = made.trained.coverage
    # Input, after the stem, depthwise and pointwise, the sum with its ReLU, and the mean.
    assert (coverage.layers, coverage.activations) == (4, 6)
    assert coverage.only_afterwards == coverage.in_float == ()


def test_the_weights_in_the_file_are_the_trained_ones_with_their_batch_norm(made: Made) -> None:
    trained, fresh = made.model, residual()
    assert isinstance(trained, Residual)
    assert isinstance(fresh, Residual)
    folded = []
    for model in (trained, fresh):
        conv, norm = model.stem[0], model.stem[1]
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        folded.append((conv.weight * factor[:, None, None, None]).detach().numpy())
    scales = [np.abs(weight).max((1, 2, 3)) / 64 for weight in folded]
    [name] = [
        node.input[0]
        for node in made.graph.graph.node
        if node.op_type == "DequantizeLinear" and "stem" in node.input[0] and "bias" not in node.input[0]
    ]
    stored, scale = made.constant(name), made.constant(name.replace("_quantized", "_scale"))
    np.testing.assert_allclose(scale, scales[0], rtol=1e-5)
    assert np.abs(stored * scale[:, None, None, None] - folded[0]).max() <= scale.max() * 0.501
    assert np.abs(scale / scales[1] - 1).max() > 0.02  # or the training did nothing that could be seen


def test_the_ranges_in_the_file_are_the_learned_ones(made: Made) -> None:
    assert len(made.trained.ranges) == 6
    for tensor, (low, high) in made.trained.ranges.items():
        assert made.constant(f"{tensor}_scale") == pytest.approx((high - low) / 255, rel=1e-5)
        assert made.constant(f"{tensor}_zero_point") == round(-low * 255 / (high - low))


def test_onnx_runtime_answers_as_the_simulation_within_a_rounding_step(made: Made) -> None:
    tensor = list(made.trained.ranges)[-1]  # the last one that is rounded, after all others
    scale = float(made.constant(f"{tensor}_scale"))
    probe = onnx.ModelProto()
    probe.CopyFrom(made.graph)
    probe.graph.output.append(onnx.ValueInfoProto(name=f"{tensor}_DequantizeLinear_Output"))
    path = made.file.with_name("probe.onnx")
    onnx.save(probe, path)
    found, rounded = open_session(path, threads=1).run(None, dict(made.train.inputs))
    seen: list[Tensor] = []
    rounding = made.simulated.graph.get_submodule(made.simulated.ranges[tensor])
    hook = rounding.register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.no_grad():
        expected = forward(made.simulated, {"input": torch.from_numpy(made.train.inputs["input"])}).softmax(1).numpy()
    hook.remove()
    apart = np.abs(seen[0].numpy().reshape(rounded.shape) - rounded) / scale
    assert apart.max() < 1.01
    assert (apart > 0.5).mean() < 0.05
    unrounded = open_session(made.float_file, threads=1).run(None, dict(made.train.inputs))[0]
    assert np.abs(found - expected).max() < 0.5 * np.abs(found - unrounded).max()


def test_openvino_answers_as_onnx_runtime_does(made: Made) -> None:
    compiled = openvino.Core().compile_model(str(made.file), "CPU", {"INFERENCE_NUM_THREADS": 1})
    values = made.train.inputs["input"]
    one = open_session(made.file, threads=1).run(None, {"input": values})[0]
    assert np.abs(compiled([values])[0] - one).max() < 0.01


def test_before_the_first_step_the_file_is_the_one_without_training(made: Made, tmp_path: Path) -> None:
    model = residual()
    simulated, _ = simulation(model, made.train, STATIC, SCALED, observed_steps=0)
    plain = export(model, SCALED, made.train, tmp_path / "fp32.onnx")
    for learned, name in ((simulated.learned(), "learned.onnx"), (None, "calibrated.onnx")):
        quantize(plain, made.train.inputs, made.train.inputs, STATIC, tmp_path / name, learned=learned)
    assert (tmp_path / "learned.onnx").read_bytes() == (tmp_path / "calibrated.onnx").read_bytes()


def test_ranges_of_another_graph_are_refused_by_name(made: Made, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="first nowhere"):
        quantize(
            made.float_file,
            made.train.inputs,
            made.train.inputs,
            STATIC,
            tmp_path / "int8.onnx",
            learned={"nowhere": (0.0, 1.0)},
        )


def test_learned_ranges_take_the_place_of_histograms_too(made: Made, tmp_path: Path) -> None:
    from trimtab.compress.activation_ranges import write_ranges
    from trimtab.compress.qdq_graph import prepared, silent

    with silent():
        ready, _ = prepared(made.float_file, tmp_path)
        write_ranges("percentile", ready, made.train.inputs, tmp_path / "ranges.json")
    tensor = list(made.trained.ranges)[-1]
    put_into(tmp_path / "ranges.json", {tensor: (-1.5, 2.5)})
    low, high = dict(load_tensors_data(tmp_path / "ranges.json").items())[tensor].range_value
    assert (float(np.min(low)), float(np.max(high))) == (-1.5, 2.5)


def uneven(weights: Tensor) -> nn.Sequential:
    """argmax of `weights @ x`, which is 8 → 3, by a first layer in which two idle channels are 60 times as large.

    One scale for the whole layer leaves the others three values: -1, 0 and 1 steps. Between two layers with a ReLU any
    channel may be that much smaller without a difference in float (Nagel et al. 2019, arXiv:1906.04721).
    """
    turn = torch.linalg.qr(torch.randn(8, 8))[0]
    back = 3 * weights @ turn.T
    model = nn.Sequential(nn.Linear(8, 18), nn.ReLU(), nn.Linear(18, 3))
    with torch.no_grad():
        model[0].weight.copy_(torch.cat([turn / 60, -turn / 60, torch.eye(8)[:2]]))
        model[2].weight.copy_(torch.cat([back, -back, torch.zeros(3, 2)], 1))
        for layer in (model[0], model[2]):
            layer.bias.zero_()
    return model.eval()


def test_accuracy_that_rounding_costs_is_trained_back(tmp_path: Path) -> None:
    per_tensor, plain = Quantize(calibration_rows=64, per_channel=False), Preprocess()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights, rows = torch.randn(3, 8), torch.rand(640, 8) * 2 - 1
        model = uneven(weights)
    labels = (rows @ weights.T).argmax(1).numpy()
    train = from_arrays("train", {"input": rows[:384].numpy()}, labels[:384])
    unseen = from_arrays("validation", {"input": rows[384:].numpy()}, labels[384:])

    def accuracy(name: str, learned: Ranges | None = None) -> float:
        path = export(model, plain, train, tmp_path / name)
        quantize(path, train.inputs, train.inputs, per_tensor, tmp_path / f"int8-{name}", learned=learned)
        answers = open_session(tmp_path / f"int8-{name}", threads=1).run(None, dict(unseen.inputs))[0]
        return float((answers.argmax(1) == unseen.labels).mean())

    before = accuracy("before.onnx")
    settings = Qat(epochs=4, lr=0.01, threads=1)
    trained = train_quantized(
        model, train, unseen, settings, per_tensor, plain, lambda module, inputs: module(inputs["input"]), seed=0
    )
    after = accuracy("after.onnx", trained.ranges)
    assert before < 0.8  # in float it is 1
    assert after > 0.93
    assert trained.fitted.validation_accuracy == pytest.approx(after, abs=0.02)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.GRU(4, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, value: Tensor) -> Tensor:
        return self.head(self.inner(value)[0][:, -1])


def test_recurrent_layers_stay_in_float_and_are_named() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 5, 4)).astype(np.float32)
    train = from_arrays("train", {"input": rows}, np.arange(40) % 3)
    _, coverage = simulation(Recurrent().eval(), train, Quantize(calibration_rows=40), Preprocess(), 0)
    assert coverage.layers == 1
    assert coverage.in_float == ("inner.weight_ih_l0", "inner.weight_hh_l0")


def test_a_model_without_a_layer_to_round_is_refused() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    train = from_arrays("train", {"input": rows}, np.arange(40) % 3)
    with pytest.raises(UnsupportedError, match="no convolution or linear layer"):
        simulation(nn.Sequential(nn.LayerNorm(3)).eval(), train, Quantize(calibration_rows=40), Preprocess(), 0)
