"""Batch-norm re-estimation: the statistics are those of the rows, and nothing else moves."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trimtab.compress.batchnorm import reestimate
from trimtab.errors import UnsupportedError


def forward(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return model(inputs["input"])


def rows(*shape: int, seed: int = 0) -> dict[str, np.ndarray]:
    return {"input": np.random.default_rng(seed).normal(3.0, 2.0, size=shape).astype(np.float32)}


def network() -> nn.Sequential:
    """Two batch norms over images, dropout between them; weights and statistics off their defaults."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *[nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5)],
        *[nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 5)],
    )
    for layer in (model[1], model[5]):
        nn.init.normal_(layer.running_mean)
        nn.init.uniform_(layer.weight, 0.5, 2.0)
    return model


@pytest.mark.parametrize("count", [2, 64, 100, 129, 150])
def test_first_layers_statistics_are_those_of_all_rows_however_they_are_batched(count: int) -> None:
    model, inputs = network(), rows(count, 2, 8, 8)
    assert reestimate(model, inputs, forward) == 2
    with torch.no_grad():
        fed = model[0](torch.from_numpy(inputs["input"])).transpose(0, 1).flatten(1)
    torch.testing.assert_close(model[1].running_mean, fed.mean(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model[1].running_var, fed.var(1), rtol=1e-4, atol=1e-5)


def test_a_later_layer_sees_what_the_earlier_one_normalizes_and_no_dropout() -> None:
    model, inputs = network(), rows(40, 2, 8, 8)
    reestimate(model, inputs, forward)
    with torch.no_grad():
        first = model[0](torch.from_numpy(inputs["input"]))
        centred = first - first.mean((0, 2, 3), keepdim=True)
        scale = (first.var((0, 2, 3), correction=0, keepdim=True) + model[1].eps).rsqrt()
        normal = centred * scale * model[1].weight.view(1, -1, 1, 1) + model[1].bias.view(1, -1, 1, 1)
        fed = model[4](normal.relu()).transpose(0, 1).flatten(1)
    torch.testing.assert_close(model[5].running_mean, fed.mean(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model[5].running_var, fed.var(1), rtol=1e-4, atol=1e-5)


def test_rows_of_features_have_their_mean_and_variance_by_hand() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2))
    inputs = {"input": np.array([[0, 1], [2, 1], [4, 7]], np.float32)}
    reestimate(model, inputs, forward, batch_size=2)
    assert model[0].running_mean.tolist() == [2, 3]
    assert model[0].running_var.tolist() == [4, 12]


def test_nothing_but_running_statistics_changes_and_the_mode_is_evaluation() -> None:
    model = network().train()
    model[1].momentum = 0.3
    before, chance = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    reestimate(model, rows(20, 2, 8, 8), forward)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[1] for name in changed} == {"running_mean", "running_var", "num_batches_tracked"}
    assert {name.split(".")[0] for name in changed} == {"1", "5"}
    assert not any(module.training for module in model.modules())
    assert model[1].momentum == 0.3
    assert all(layer.track_running_stats and not layer._forward_pre_hooks for layer in (model[1], model[5]))
    assert torch.equal(chance, torch.get_rng_state())


def test_the_same_rows_give_the_same_statistics_whatever_was_there_before() -> None:
    one, other = network(), network()
    nn.init.constant_(other[1].running_var, 9.0)
    for model in (one, other):
        reestimate(model, rows(90, 2, 8, 8), forward, batch_size=32)
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), other.buffers(), strict=True))


def test_a_shift_of_activations_is_undone() -> None:
    model, inputs = network().eval(), rows(64, 2, 8, 8)
    reestimate(model, inputs, forward)
    before = forward(model, {"input": torch.from_numpy(inputs["input"])})
    with torch.no_grad():
        model[0].bias.add_(5.0)
    reestimate(model, inputs, forward)
    after = forward(model, {"input": torch.from_numpy(inputs["input"])})
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)


def test_a_model_without_batch_norm_is_only_put_into_evaluation_mode() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False)).train()
    assert reestimate(model, rows(4, 2), forward) == 0
    assert not model.training


def test_a_batch_norm_that_forward_never_reaches_is_not_counted() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.BatchNorm1d(2), nn.BatchNorm1d(2)

        def forward(self, value: Tensor) -> Tensor:
            return self.used(value)

    model = Unused()
    assert reestimate(model, rows(4, 2), forward) == 1
    assert model.unused.running_mean.tolist() == [0, 0]


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_rows_are_refused_and_the_statistics_stay(count: int) -> None:
    model = nn.Sequential(nn.BatchNorm1d(2))
    with pytest.raises(UnsupportedError, match="cannot be re-estimated") as caught:
        reestimate(model, rows(count, 2), forward)
    assert "two training rows" in caught.value.fix
    assert model[0].running_mean.tolist() == [0, 0]
    assert model[0].track_running_stats
