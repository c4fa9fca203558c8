"""Sensitivity: the figure is what pruning that group alone does, it rises with the ratio, and nothing is changed."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trimtab.compress.divergence import divergence_of, log_probabilities
from trimtab.compress.groups import groups
from trimtab.compress.prune import prune
from trimtab.compress.sensitivity import channel_sensitivity
from trimtab.data import from_arrays
from trimtab.recipe.schema import Norm

RATIOS = (0.25, 0.5, 0.75)


def forward(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return model(inputs["input"])


class Plain(nn.Module):
    """Two convolutions with batch norm, and a linear layer before the head; norm over channels if asked."""

    def __init__(self, layer_norm: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.norm, self.two = nn.Conv2d(2, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 24, 3)
        self.over = nn.LayerNorm(24) if layer_norm else nn.Identity()
        self.last, self.head = nn.Linear(24, 16), nn.Linear(16, 5)

    def forward(self, value: Tensor) -> Tensor:
        value = self.two(self.norm(self.one(value)).relu()).relu().mean((2, 3))
        return self.head(self.last(self.over(value)).relu())


ROWS = {"input": np.random.default_rng(0).normal(size=(20, 2, 7, 7)).astype(np.float32)}
TENSORS = {name: torch.from_numpy(value) for name, value in ROWS.items()}
LABELLED = from_arrays("train", ROWS, np.arange(20) % 5)


@pytest.mark.parametrize("norm", ["l1", "taylor", "random"])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_the_figure_is_the_divergence_after_pruning_that_group_alone(norm: Norm, layer_norm: bool) -> None:
    model = Plain(layer_norm).eval()
    before = copy.deepcopy(model.state_dict())
    found = channel_sensitivity(
        model, TENSORS, forward, groups(model, ROWS, forward, 4), [0.5], norm, data=LABELLED, seed=3
    )
    assert list(found) == ["one", "two", "last"]
    original = log_probabilities(model, TENSORS, forward)
    for root, curve in found.items():
        cut = copy.deepcopy(model)
        prune(cut, ROWS, forward, norm, {root: 0.5}, 4, data=LABELLED, seed=3)
        after = divergence_of(original, log_probabilities(cut, TENSORS, forward))
        assert curve == {0.5: pytest.approx(after, rel=1e-3)}
        assert after > 0
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_it_never_falls_with_the_ratio_and_is_the_same_again() -> None:
    model = Plain().eval()
    listed = groups(model, ROWS, forward, 1)
    once, again = (channel_sensitivity(model, TENSORS, forward, listed, (0.9, 0.0, *RATIOS), "l2") for _ in range(2))
    assert once == again
    for curve in once.values():
        assert list(curve) == [0.0, *RATIOS, 0.9]
        assert list(curve.values()) == sorted(curve.values())
        assert curve[0.0] == 0


def test_a_silent_group_is_not_sensitive_and_the_others_are() -> None:
    model = Plain().eval()
    nn.init.zeros_(model.head.weight[:, :8])
    with torch.no_grad():
        model.last.weight[:8] = 0
    found = channel_sensitivity(model, TENSORS, forward, groups(model, ROWS, forward, 4), [0.5], "l1")
    assert found["last"][0.5] == pytest.approx(0, abs=1e-12)
    assert found["one"][0.5] > 1e-6
