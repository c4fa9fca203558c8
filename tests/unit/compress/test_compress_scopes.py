"""Global scope and rounds: lots go by normalised score, sizes fall with the ratio, rounds reach the same counts."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from trimtab.compress.prune import prune
from trimtab.compress.ranking import Scored, kept_globally
from trimtab.compress.replay import replay
from trimtab.data import from_arrays
from trimtab.errors import UnsupportedError
from trimtab.optimize.architectures.mlp import mlp
from trimtab.recipe.schema import Norm

WIDTHS = (24, 32, 16)
ROWS = {"input": np.random.default_rng(0).normal(size=(10, 12)).astype(np.float32)}
LABELLED = from_arrays("train", ROWS, np.arange(10) % 5)


def forward(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return model(inputs["input"])


def widths(model: nn.Module) -> list[int]:
    return [layer.out_features for layer in model.modules() if isinstance(layer, nn.Linear)]


def scored(*scores: float, blocks: int = 1, step: int = 2) -> Scored:
    return Scored(torch.tensor(scores, dtype=torch.float64), blocks, step)


EXAMPLE = {"one": scored(1, 2, 3, 6), "two": scored(8, 2, 8, 2)}


@pytest.mark.parametrize(
    ("remove", "norm", "kept"),
    [
        *[(0, "l1", {"one": 4, "two": 4}), (0.9, "l1", {"one": 4, "two": 4}), (2, "l1", {"one": 4, "two": 2})],
        *[(4, "l1", {"one": 2, "two": 2}), (8, "l1", {"one": 2, "two": 2})],
        # Taylor scores are compared as they are: 1.5 of the first against 2 of the second.
        (2, "taylor", {"one": 2, "two": 4}),
    ],
)
def test_lots_go_in_the_order_of_their_normalised_score(remove: float, norm: Norm, kept: dict[str, int]) -> None:
    assert kept_globally(EXAMPLE, remove, norm) == kept


def test_a_group_that_is_no_multiple_gives_its_odd_channels_first() -> None:
    assert kept_globally({"odd": scored(1, 2, 3, 4, 5, step=4)}, 1, "l1") == {"odd": 4}
    # In blocks every place counts once a block: of 2 x 4 channels a lot is 2 x 2.
    assert kept_globally({"heads": scored(1, 2, 3, 4, blocks=2)}, 4, "l1") == {"heads": 2}
    assert kept_globally({"heads": scored(1, 2, 3, 4, blocks=2)}, 1.9, "l1") == {"heads": 4}


@settings(max_examples=10, deadline=None)
@given(
    norm=st.sampled_from(["l1", "l2", "linf", "taylor", "random"]),
    ratios=st.lists(st.floats(0.05, 0.95), min_size=2, max_size=2).map(sorted),
    round_to=st.sampled_from([1, 4, 8]),
)
def test_globally_no_channel_comes_back_at_a_larger_ratio(norm: Norm, ratios: list[float], round_to: int) -> None:
    original = mlp(12, 5, WIDTHS).eval()
    found = []
    for ratio in ratios:
        model = copy.deepcopy(original)
        try:
            result = prune(model, ROWS, forward, norm, ratio, round_to, data=LABELLED, scope="global")
        except UnsupportedError:
            found.append(list(WIDTHS))  # the ratio is less than half a lot
            continue
        found.append(widths(model)[:-1])
        assert all(width % round_to == 0 and width > 0 for width in found[-1])
        assert abs(sum(WIDTHS) - sum(found[-1]) - ratio * sum(WIDTHS)) <= round_to / 2 or found[-1] == [round_to] * 3
        assert result.after["parameters"] == sum(parameter.numel() for parameter in model.parameters())
        assert forward(model, {"input": torch.from_numpy(ROWS["input"])}).shape == (10, 5)
    assert all(more >= less for more, less in zip(*found, strict=True))


def test_globally_the_weak_group_gives_and_the_others_are_named() -> None:
    model = mlp(12, 5, (16, 16))
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        layers[1].weight[:8], layers[1].bias[:8], layers[2].weight[:, :8] = 0, 0, 0
    result = prune(model, ROWS, forward, "l1", 0.25, 8, scope="global")
    assert widths(model) == [16, 8, 5]
    assert [line.split(": ")[1] for line in result.skipped] == ["its channels rank above all that were removed"]


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("rounds", [2, 3])
def test_rounds_reach_the_same_number_of_channels_and_the_history_replays(scope: str, rounds: int) -> None:
    original = mlp(12, 5, WIDTHS).eval()
    once, often, settled = copy.deepcopy(original), copy.deepcopy(original), []
    prune(once, ROWS, forward, "taylor", 0.5, 4, data=LABELLED, scope=scope)
    result = prune(
        often, ROWS, forward, "taylor", 0.5, 4, data=LABELLED, scope=scope, rounds=rounds, settle=settled.append
    )
    assert sum(widths(often)) == sum(widths(once))
    assert len(settled) == rounds - 1
    assert result.skipped == []
    replayed = replay(original, json.loads(json.dumps(result.history)))
    tensors = {"input": torch.from_numpy(ROWS["input"])}
    assert torch.equal(forward(replayed, tensors), forward(often, tensors))


def test_between_rounds_channels_are_scored_anew() -> None:
    """Channel 0 outweighs channel 1 by what reads it; once that reader is gone, it is the weaker one."""
    model = nn.Sequential(nn.Linear(1, 4, bias=False), nn.ReLU(), nn.Linear(4, 4, bias=False), nn.ReLU())
    model.append(nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([[1.0], [2.0], [9.0], [9.0]])
        model[2].weight[:] = torch.tensor([[3.0, 0, 0, 0], [0, 0, 4, 4], [0, 0, 4, 4], [1, 1, 4, 4]])
        model[4].weight[:] = torch.tensor([[0.0, 4, 4, 4], [0.0, 4, 4, 4]])
    rows = {"input": np.ones((2, 1), np.float32)}
    gone = []
    for rounds in (1, 2):
        result = prune(copy.deepcopy(model), rows, forward, "l1", 0.5, 1, rounds=rounds)
        first = [cut["indices"] for cut in result.history if cut.get("layer") == "0"]
        gone.append(first)
    assert gone == [[[0, 1]], [[1], [0]]]


def test_ratios_by_group_are_not_ranked_globally() -> None:
    with pytest.raises(UnsupportedError, match="nothing to rank"):
        prune(mlp(12, 5, WIDTHS), ROWS, forward, "l1", {"0": 0.5}, 8, scope="global")


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_zero_ratio_is_the_identity(scope: str) -> None:
    model = mlp(12, 5, WIDTHS)
    before = copy.deepcopy(model.state_dict())
    assert prune(model, ROWS, forward, "l1", 0.0, 8, scope=scope, rounds=3).history == []
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
