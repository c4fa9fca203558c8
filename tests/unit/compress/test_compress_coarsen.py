"""Coarser weights: few even values a channel that outlast quantizing, small layers spared, a smaller file."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from trimtab.compress.coarsen import coarsen, large_layers, on_grid
from trimtab.errors import UnsupportedError


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 7))
def test_a_channel_has_few_even_values_none_of_them_beyond_its_largest(seed: int, bits: int) -> None:
    rows = torch.from_numpy(np.random.default_rng(seed).normal(size=(4, 500)))
    found = on_grid(rows, bits)
    steps = 2 ** (bits - 1) - 1
    for row, before in zip(found, rows, strict=True):
        largest = row.abs().max()
        places = row * steps / largest
        assert len(row.unique()) <= 2 * steps + 1
        torch.testing.assert_close(places, places.round(), atol=1e-6, rtol=0)
        assert largest <= before.abs().max() * (1 + 1e-9)


def test_more_bits_lose_less() -> None:
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 500)))
    errors = [float((rows - on_grid(rows, bits)).square().mean()) for bits in range(2, 8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 100 * errors[-1]


def test_weights_as_int8_are_the_same_few_integers_in_all_channels_and_compress_better() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(32, 64, 3)
    with torch.no_grad():
        layer.weight *= torch.logspace(-2, 2, 64)[:, None, None, None]  # as folded batch norm leaves channels

    def integers() -> np.ndarray:
        rows = layer.weight.detach().flatten(1)
        return (rows * 64 / rows.abs().amax(1, keepdim=True)).round().to(torch.int8).numpy()

    before = integers()
    coarsen(nn.Sequential(layer), 5, spared=0)
    after = integers()
    assert len(np.unique(before)) == 129
    assert len(np.unique(after)) == 31
    assert len(gzip.compress(after.tobytes())) < 0.8 * len(gzip.compress(before.tobytes()))


def test_small_layers_are_spared_up_to_their_share_and_facts_tell_the_others() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 10), nn.Linear(10, 10), nn.Linear(10, 86))  # 40, 100 and 860 weights
    before = [layer.weight.detach().clone() for layer in model]
    facts = coarsen(model, 3, spared=0.05)
    same = [torch.equal(layer.weight, old) for layer, old in zip(model, before, strict=True)]
    assert same == [True, False, False]
    assert (facts["layers"], facts["weights"]) == (["1", "2"], pytest.approx(0.96))
    changed = sum(float((model[i].weight - before[i]).detach().square().sum()) for i in (1, 2))
    whole = sum(float(before[i].square().sum()) for i in (1, 2))
    assert facts["error"] == pytest.approx((changed / whole) ** 0.5)
    assert large_layers({"a": 10, "b": 90}, 0.1) == ["b"]
    assert large_layers({"a": 10, "b": 90}, 0.09) == ["a", "b"]


def test_transposed_convolutions_have_their_channels_on_the_second_axis() -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(32, 6, 3)
    coarsen(nn.Sequential(layer), 2, spared=0)
    assert [len(layer.weight[:, channel].unique()) for channel in range(6)] == [3] * 6


def test_dead_layers_stay_zero() -> None:
    layer = nn.Linear(8, 4)
    nn.init.zeros_(layer.weight)
    assert coarsen(nn.Sequential(layer), 5, spared=0)["error"] == 0
    assert torch.equal(layer.weight, torch.zeros(4, 8))


def test_models_without_such_layers_or_with_nan_are_refused_and_stay() -> None:
    with pytest.raises(UnsupportedError, match="made coarser: there is no convolution"):
        coarsen(nn.Sequential(nn.LayerNorm(4)), 5, spared=0.2)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    with torch.no_grad():
        model[0].weight[0, 0], model[1].weight[0, 0] = 50, float("nan")
    before = model[0].weight.detach().clone()
    with pytest.raises(UnsupportedError, match="NaN") as caught:
        coarsen(model, 2, spared=0)
    assert caught.value.where == "1.weight"
    assert torch.equal(model[0].weight, before)
