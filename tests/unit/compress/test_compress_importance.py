"""Criteria: Taylor tells what the loss loses, batch-norm scale reads γ, chance is repeatable; each names its needs."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn import functional as F

from trimtab.compress.gradients import BATCH, hold, loss_gradients
from trimtab.compress.importance import bn_scales, channel_scores, random_scores, taylor
from trimtab.compress.prune import prune
from trimtab.compress.replay import replay
from trimtab.data import Split, from_arrays
from trimtab.errors import UnsupportedError
from trimtab.optimize.architectures.cnn import cnn
from trimtab.optimize.architectures.mlp import mlp


def forward(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return model(inputs["input"])


def split(*shape: int, classes: int = 3, seed: int = 0) -> Split:
    generator = np.random.default_rng(seed)
    inputs = {"input": generator.normal(size=shape).astype(np.float32)}
    return from_arrays("train", inputs, generator.integers(0, classes, shape[0]))


def loss(model: nn.Module, data: Split) -> Tensor:
    return F.cross_entropy(model.eval()(torch.from_numpy(data.inputs["input"])), torch.from_numpy(data.labels))


def test_gradients_are_the_root_mean_square_over_batches_and_leave_the_model_alone() -> None:
    torch.manual_seed(0)
    model, data = mlp(4, 3, hidden=(8,)).train(), split(150, 4)
    model[-1].bias.requires_grad_(False)
    found = loss_gradients(model, data, forward)
    assert model.training
    assert not model[-1].bias.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    whole = copy.deepcopy(model).requires_grad_(True)
    order = np.random.default_rng(0).permutation(150)
    squares = {name: torch.zeros_like(parameter) for name, parameter in whole.named_parameters()}
    for start in range(0, 150, BATCH):
        part = data.take(order[start : start + BATCH])
        whole.zero_grad()
        loss(whole, part).backward()
        for name, parameter in whole.named_parameters():
            squares[name] += parameter.grad.square() * (len(part) / 150)
    for name, square in squares.items():
        torch.testing.assert_close(found[name], square.sqrt(), rtol=1e-4, atol=1e-6)


def test_taylor_is_the_sum_of_squared_products_of_weight_and_gradient_by_hand() -> None:
    model = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 2))
    with torch.no_grad():
        for name, values in {
            "0.weight": [[1.0], [2.0]],
            "0.bias": [3.0, 0.0],
            "1.weight": [[1.0, 2.0], [0.0, -1.0]],
        }.items():
            model.get_parameter(name).copy_(torch.tensor(values))
    hold(
        model,
        {
            "0.weight": torch.tensor([[2.0], [-1.0]]),
            "0.bias": torch.tensor([1.0, 5.0]),
            "1.weight": torch.tensor([[-4.0, 1.0], [7.0, 3.0]]),
        },
    )
    graph = tp.DependencyGraph().build_dependency(model, torch.zeros(1, 1))
    group = graph.get_pruning_group(model[0], tp.prune_linear_out_channels, [0, 1])
    # (1·2)² + (3·1)² + (1·(-4))² + (0·7)², and (2·(-1))² + (0·5)² + (2·1)² + ((-1)·3)²
    assert taylor(group, 2).tolist() == [29.0, 17.0]


def test_taylor_takes_the_channel_that_the_loss_needs_least() -> None:
    torch.manual_seed(0)
    model, data = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)), split(64, 4)
    with torch.no_grad():
        model[2].weight[:, 5] = 1e-4  # the answer hardly sees it
        model[0].weight[5] = 3.0  # though its norm is the largest
    pruned = prune(copy.deepcopy(model), data.inputs, forward, "taylor", 0.1, 1, data=data)
    assert pruned.history[0]["indices"] == [5]
    assert prune(copy.deepcopy(model), data.inputs, forward, "l1", 0.1, 1).history[0]["indices"] != [5]


def test_gradients_are_cut_with_the_weights() -> None:
    torch.manual_seed(0)
    model, data = cnn(1, 3, widths=(8, 16)), split(8, 1, 8, 8)
    found = loss_gradients(model, data, forward)
    copied = copy.deepcopy(model)
    hold(copied, found)
    history = prune(model, data.inputs, forward, "taylor", 0.5, 4, data=data).history
    replay(copied, history)
    assert all(parameter.grad.shape == parameter.shape for parameter in copied.parameters())
    kept = [i for i in range(8) if i not in history[0]["indices"]]
    assert torch.equal(copied[0].weight.grad, found["0.weight"][kept])


def test_taylor_without_rows_says_what_it_needs() -> None:
    inputs = split(2, 4).inputs
    with pytest.raises(UnsupportedError, match="needs labelled training rows") as caught:
        prune(mlp(4, 3), inputs, forward, "taylor", 0.5, 8)
    assert "data" in caught.value.fix


def test_taylor_refuses_a_model_that_hides_its_gradients() -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        @torch.no_grad()
        def forward(self, value: Tensor) -> Tensor:
            return self.layer(value)

    with pytest.raises(UnsupportedError, match="no gradient of the loss"):
        loss_gradients(Hidden(), split(4, 4), forward)


def test_a_parameter_that_the_loss_does_not_read_has_zero_gradient() -> None:
    model = mlp(4, 3)
    model.register_parameter("unread", nn.Parameter(torch.ones(2)))
    assert loss_gradients(model, split(4, 4), forward)["unread"].tolist() == [0, 0]


def test_the_seed_decides_which_rows_are_drawn() -> None:
    torch.manual_seed(0)
    model, data = mlp(4, 3, hidden=(8,)), split(600, 4)
    one, again, other = (loss_gradients(model, data, forward, seed)["1.weight"] for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_batch_norm_scale_reads_gamma_alone_and_follows_a_flattened_map() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([0.5, -2.0, 1.0]))
        model[3].weight.copy_(torch.tensor([0.25] * 4 + [0.0] * 4 + [-1.0] * 4))
    graph = tp.DependencyGraph().build_dependency(model, torch.zeros(2, 1, 2, 2))
    group = graph.get_pruning_group(model[0], tp.prune_conv_out_channels, [0, 1, 2])
    scores = bn_scales(group, 3)
    assert scores is not None
    assert scores.tolist() == [1.5, 2.0, 5.0]


def test_batch_norm_scale_takes_the_smallest_gamma_first() -> None:
    torch.manual_seed(0)
    model, data = cnn(1, 3, widths=(8, 8)), split(2, 1, 8, 8)
    with torch.no_grad():
        model[1].weight.copy_(torch.arange(8.0, 0, -1))
        model[0].weight[7] = 100.0
    history = prune(model, data.inputs, forward, "bn_scale", 0.25, 1).history
    assert history[0] == {"layer": "0", "side": "out", "dim": 0, "indices": [6, 7]} | {"dim": history[0]["dim"]}


def test_groups_without_batch_norm_are_left_whole_and_named() -> None:
    model = nn.Sequential(
        *[nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU()],
        *[nn.Linear(16, 16), nn.BatchNorm1d(16, affine=False), nn.Linear(16, 3)],
    )
    result = prune(model, split(4, 4).inputs, forward, "bn_scale", 0.5, 8)
    assert [layer.out_features for layer in model if isinstance(layer, nn.Linear)] == [8, 16, 16, 3]
    assert result.skipped == ["3: no batch norm", "5: no batch norm"]


def test_a_model_without_any_batch_norm_is_refused_by_name() -> None:
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    with pytest.raises(UnsupportedError, match="0: no batch norm"):
        prune(model, split(4, 4).inputs, forward, "bn_scale", 0.5, 8)


def test_chance_is_the_same_for_one_seed_and_another_for_each_layer_and_seed() -> None:
    assert torch.equal(random_scores(16, "conv", 3), random_scores(16, "conv", 3))
    assert not torch.equal(random_scores(16, "conv", 3), random_scores(16, "conv", 4))
    assert not torch.equal(random_scores(16, "conv", 3), random_scores(16, "conv2", 3))


def test_chance_prunes_alike_for_one_seed_whatever_the_weights_are() -> None:
    data = split(2, 1, 8, 8)
    cuts = [prune(cnn(1, 3), data.inputs, forward, "random", 0.5, 8, seed=seed).history for seed in (5, 5, 6)]
    assert cuts[0] == cuts[1] != cuts[2]


def test_every_criterion_scores_each_channel_once() -> None:
    model, data = cnn(1, 3, widths=(8, 8)), split(4, 1, 8, 8)
    hold(model, loss_gradients(model, data, forward))
    graph = tp.DependencyGraph().build_dependency(model, torch.zeros(2, 1, 8, 8))
    group = graph.get_pruning_group(model[0], tp.prune_conv_out_channels, list(range(8)))
    for norm in ("l1", "l2", "linf", "taylor", "bn_scale", "random"):
        scores = channel_scores(group, 8, norm, "0", 1)
        assert scores is not None
        assert (scores.shape, scores.dtype, scores.requires_grad) == ((8,), torch.float64, False)
