"""Clipping: the range is the best of those tried, quantizing loses no more than before, others stay."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from trimtab.compress.clip import SHARES, best_limits, clip
from trimtab.errors import UnsupportedError


def loss(row: np.ndarray, limit: float, bits: int) -> float:
    """Squared error of symmetric quantization to [-limit, limit], written out."""
    steps = 2 ** (bits - 1) - 1
    step = limit / steps
    return float(((row - np.clip(np.round(row / step), -steps, steps) * step) ** 2).sum())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 8), st.sampled_from([1.0, 3.0, 30.0]))
def test_the_range_is_the_best_of_those_tried(seed: int, bits: int, outlier: float) -> None:
    row = np.random.default_rng(seed).normal(size=200)
    row[0] *= outlier
    [found] = best_limits(torch.from_numpy(row)[None], bits).tolist()
    largest = np.abs(row).max()
    errors = {share: loss(row, largest * share, bits) for share in SHARES}
    assert loss(row, found, bits) == pytest.approx(min(errors.values()), rel=1e-6)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(
    "build", [lambda: nn.Linear(800, 4), lambda: nn.Conv2d(32, 6, 5), lambda: nn.ConvTranspose2d(32, 6, 5)]
)
def test_quantizing_loses_less_and_only_weights_beyond_a_limit_change(
    build: type[nn.Module], per_channel: bool
) -> None:
    torch.manual_seed(0)
    layer = build()
    with torch.no_grad():
        layer.weight.view(-1)[5] = 2 * layer.weight.abs().max()
    before = layer.weight.detach().clone()
    facts = clip(nn.Sequential(layer), 4, per_channel)
    after = layer.weight.detach()
    changed = after != before
    assert facts["error_after"] < facts["error_before"]
    assert facts["clipped"] == pytest.approx(float(changed.float().mean()))
    assert changed.view(-1)[5]
    assert (after.abs() <= before.abs()).all()
    assert torch.equal(after.sign(), before.sign())
    axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    channels = range(before.shape[axis]) if per_channel else [slice(None)]
    for channel in channels:
        old, new = (value.movedim(axis, 0)[channel] for value in (before, after))
        # Every weight that changed is now at its channel's limit.
        assert len(set(new[old != new].abs().tolist())) <= 1


def test_weights_on_the_grid_of_the_quantizer_stay_as_they_are() -> None:
    layer = nn.Linear(15, 3)
    with torch.no_grad():
        layer.weight[:] = torch.arange(-7.0, 8.0)
    before = copy.deepcopy(layer.state_dict())
    facts = clip(nn.Sequential(layer), 4)
    assert (facts["clipped"], facts["error_after"]) == (0, pytest.approx(0, abs=1e-9))
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())


def test_folding_batch_norm_afterwards_needs_no_other_range_a_channel() -> None:
    torch.manual_seed(0)
    rows = torch.randn(5, 80, dtype=torch.float64) ** 3
    scale = torch.tensor([0.01, 3.0, 1.0, 40.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(best_limits(rows * scale[:, None], 4), best_limits(rows, 4) * scale)


def test_zero_channels_and_dead_layers_stay_zero() -> None:
    layer = nn.Linear(8, 4)
    nn.init.zeros_(layer.weight)
    clip(nn.Sequential(layer), 8)
    assert torch.equal(layer.weight, torch.zeros(4, 8))


def test_models_that_cannot_be_clipped_are_refused_and_stay() -> None:
    with pytest.raises(UnsupportedError, match="no convolution or linear layer"):
        clip(nn.Sequential(nn.LayerNorm(4)), 8)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    with torch.no_grad():
        model[0].weight[0, 0], model[1].weight[0, 0] = 50, float("nan")
    with pytest.raises(UnsupportedError, match="NaN") as caught:
        clip(model, 2)
    assert caught.value.where == "1.weight"
    assert float(model[0].weight[0, 0]) == 50
