"""Rounding in training is that of ONNX Runtime's quantizer, and folding does not change what is computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from onnxruntime.quantization.quant_utils import quantize_data
from torch import fx, nn

from trimtab.compress.fake_quantize import ActivationRange, folded_bias, folded_weight, rounded_weight
from trimtab.compress.simulate import Simulated


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1e-6, 1.0, 1e4]), st.sampled_from([0, 1, None]))
def test_weights_are_rounded_as_onnx_runtime_stores_them(seed: int, size: float, axis: int | None) -> None:
    weight = (np.random.default_rng(seed).normal(size=(5, 7)) * size).astype(np.float32)
    weight[0] = 0  # a dead channel
    slices = [weight] if axis is None else [weight.take([place], axis) for place in range(weight.shape[axis])]
    expected = []
    for values in slices:
        zero, scale, integers = quantize_data(values, TensorProto.INT8, symmetric=True, reduce_range=True)
        expected.append((integers.astype(np.float32) - zero) * scale)
    whole = expected[0] if axis is None else np.concatenate(expected, axis)
    found = rounded_weight(torch.from_numpy(weight), axis).numpy()
    steps = np.abs(weight).max() / 64
    # A value half-way between two integers may fall on either side.
    assert (np.abs(found - whole) > 1e-4 * steps).mean() <= 0.03


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(-5, 0, width=32), st.floats(0.125, 5, width=32))
def test_activations_within_the_range_move_by_half_a_step_at_most_and_others_to_its_end(
    seed: int, low: float, high: float
) -> None:
    values = torch.from_numpy(np.random.default_rng(seed).normal(size=200, scale=4).astype(np.float32))
    found = ActivationRange(low, high).eval()(values)
    step = (high - low) / 255
    assert (found - values.clamp(low, high)).abs().max() <= 1.001 * step  # the zero point is rounded as well
    assert len(found.unique()) <= 256
    assert float(ActivationRange(low, high).eval()(torch.zeros(1))) == 0


def test_a_range_follows_the_batches_while_it_is_trained_and_observed_alone() -> None:
    rounding, batch = ActivationRange(-1.0, 1.0), torch.tensor([-3.0, 5.0])
    rounding.eval()(batch)
    assert (float(rounding.low), float(rounding.high)) == (-1, 1)
    rounding.train()(batch)
    assert (float(rounding.low), float(rounding.high)) == (pytest.approx(-1.02), pytest.approx(1.04))
    rounding.observing = False
    rounding(batch)
    assert float(rounding.high) == pytest.approx(1.04)


def test_a_value_beyond_the_range_gets_no_gradient() -> None:
    values = torch.tensor([-2.0, 0.5, 3.0], requires_grad=True)
    ActivationRange(-1.0, 1.0, observing=False)(values).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0, 1, 0]


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_a_folded_layer_computes_what_layer_and_norm_did(kind: type[nn.Conv2d], bias: bool, affine: bool) -> None:
    torch.manual_seed(0)
    layer, norm = kind(3, 4, 3, bias=bias), nn.BatchNorm2d(4, affine=affine)
    for _ in range(3):
        norm(torch.randn(8, 4, 5, 5) * 3 + 1)
    norm.eval()
    if affine:
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
    values = torch.randn(2, 3, 6, 6)
    expected = norm(layer(values))
    channels = 0 if kind is nn.Conv2d else 1
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    weight = folded_weight(layer.weight, norm.weight, variance, norm.eps, channels)
    shift = folded_bias(layer.bias, norm.weight, norm.bias, mean, variance, norm.eps)
    layer.weight, layer.bias = nn.Parameter(weight.detach()), nn.Parameter(shift.detach())
    torch.testing.assert_close(layer(values), expected, rtol=1e-4, atol=1e-5)


def test_ranges_stand_still_after_so_many_training_steps() -> None:
    graph = fx.Graph()
    graph.output(graph.call_module("range_0", (graph.placeholder("value"),)))
    module = fx.GraphModule({"range_0": ActivationRange(-1.0, 1.0)}, graph)
    simulated = Simulated(module, ["input"], {"tensor": "range_0"}, observed_steps=2)
    seen = []
    for training in (True, False, True, True, True):
        simulated.train(training)(torch.tensor([-3.0, 5.0]))
        seen.append(simulated.learned()["tensor"][1])
    assert seen[0] == seen[1] < seen[2] == seen[3] == seen[4]
