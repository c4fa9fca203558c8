"""Groups: what is coupled is listed together, a ratio for one group touches that group alone, wrong names are named."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from trimtab.compress.groups import Group, groups
from trimtab.compress.prune import prune
from trimtab.errors import UnsupportedError


def forward(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return model(inputs["input"])


def rows(*shape: int) -> dict[str, np.ndarray]:
    return {"input": np.random.default_rng(0).normal(size=shape).astype(np.float32)}


class Residual(nn.Module):
    """A stem of 16 channels that a block of inner width 32 adds to, one more convolution, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm = nn.Conv2d(3, 16, 1), nn.BatchNorm2d(16)
        self.inner, self.outer = nn.Conv2d(16, 32, 1), nn.Conv2d(32, 16, 1)
        self.last, self.head = nn.Conv2d(16, 24, 1), nn.Linear(24, 5)

    def forward(self, value: Tensor) -> Tensor:
        stem = self.norm(self.stem(value)).relu()
        value = (stem + self.outer(self.inner(stem).relu())).relu()
        return self.head(self.last(value).relu().mean((2, 3)))


IMAGES = rows(2, 3, 4, 4)
WIDTHS = {"stem": 16, "inner": 32, "last": 24}


def test_groups_by_hand() -> None:
    found = {group.root: group for group in groups(Residual(), IMAGES, forward, 8)}
    # stem: its 3 weights and bias, γ and β, inner's and last's inputs, and what outer puts out.
    each = {"stem": 3 + 1 + 2 + 32 + 24 + 33, "inner": 16 + 1 + 16, "last": 16 + 1 + 5}
    assert found["stem"] == Group("stem", 16, ("stem", "outer"), 16 * each["stem"], 1, 8)
    assert found["inner"] == Group("inner", 32, ("inner",), 32 * each["inner"], 1, 8)
    assert found["last"] == Group("last", 24, ("last",), 24 * each["last"], 1, 8)
    assert (found["head"].reason, found["head"].can_be_cut) == ("its channels are the output", False)
    assert list(found) == ["stem", "inner", "last", "head"]


def test_listing_the_groups_leaves_the_model_as_it_was() -> None:
    model = Residual()
    before = copy.deepcopy(model.state_dict())
    groups(model, IMAGES, forward, 4)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_group_that_rounding_leaves_whole_says_so() -> None:
    found = {group.root: group for group in groups(Residual(), IMAGES, forward, 24)}
    assert found["last"].reason == "24 channels are kept: round_to is 24"
    assert found["last"].kept(0.9) == 24
    assert found["inner"].can_be_cut


@settings(max_examples=15, deadline=None)
@given(
    ratios=st.dictionaries(st.sampled_from(list(WIDTHS)), st.floats(0, 0.95), min_size=1),
    round_to=st.sampled_from([1, 4, 8]),
)
def test_ratios_touch_the_named_groups_alone_and_reach_what_the_groups_say(
    ratios: dict[str, float], round_to: int
) -> None:
    model = Residual()
    kept = {group.root: group.kept(ratios.get(group.root, 0)) for group in groups(model, IMAGES, forward, round_to)}
    try:
        result = prune(model, IMAGES, forward, "l1", ratios, round_to)
    except UnsupportedError:
        assert kept == WIDTHS | {"head": 5}  # nothing to remove at these ratios
        return
    assert {name: model.get_submodule(name).out_channels for name in WIDTHS} == {n: kept[n] for n in WIDTHS}
    assert result.after["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert all(ratios[line.split(":")[0]] > 0 for line in result.skipped)


def test_ratios_of_zero_are_the_identity() -> None:
    model = Residual()
    before = copy.deepcopy(model.state_dict())
    result = prune(model, IMAGES, forward, "l1", {"stem": 0.0, "last": 0}, 8)
    assert (result.history, result.removed_share) == ([], 0)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ({"nowhere": 0.5}, "'nowhere' is no layer that starts a group"),
        ({"outer": 0.5}, "the channels of 'outer' belong to the group of 'stem'"),
        ({"stem": 1.0}, "the ratio 1 of 'stem' is not from 0"),
    ],
)
def test_a_ratio_of_no_group_is_refused_by_name_and_nothing_is_cut(ratios: dict[str, float], said: str) -> None:
    model = Residual()
    with pytest.raises(UnsupportedError, match=said):
        prune(model, IMAGES, forward, "l1", {"inner": 0.5, **ratios}, 8)
    assert model.inner.out_channels == 32


def test_naming_the_output_layer_is_reported() -> None:
    result = prune(Residual(), IMAGES, forward, "l1", {"head": 0.5, "inner": 0.5}, 1)
    assert result.skipped == ["head: its channels are the output"]


def test_of_layers_that_two_groups_share_only_the_own_part_counts() -> None:
    class Concatenated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Conv2d(3, 16, 1), nn.Conv2d(3, 24, 1)
            self.norm, self.head = nn.BatchNorm2d(40), nn.Linear(40, 5)

        def forward(self, value: Tensor) -> Tensor:
            return self.head(self.norm(torch.cat([self.left(value), self.right(value)], 1)).relu().mean((2, 3)))

    left, right, _ = groups(Concatenated(), IMAGES, forward, 8)
    # Each channel: 3 weights and a bias, γ and β, 5 weights that read it.
    assert (left.parameters, right.parameters) == (16 * 11, 24 * 11)
