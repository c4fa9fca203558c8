"""The moving average of weights: computed as said, judged, kept, and right for batch norm and other buffers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trimtab.data import Split
from trimtab.optimize.averaging import MovingAverage
from trimtab.optimize.batches import Batch
from trimtab.optimize.predicting import predict
from trimtab.optimize.training import fit
from trimtab.recipe.schema import Train

Blobs = Callable[[int, int], Split]


def forward(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return model(inputs["input"])


def test_an_average_of_weights_is_what_is_kept(blobs: Blobs) -> None:
    train, validation = blobs(24, 0), blobs(30, 1)
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    weights: list[Tensor] = []

    # gd steps once an epoch, so the weights before each step are those after the one before.
    def noting(logits: Tensor, batch: Batch) -> Tensor:
        weights.append(model.weight.detach().clone())
        return F.cross_entropy(logits, batch.labels)

    plain = copy.deepcopy(model)
    settings: dict[str, Any] = {"optimizer": "gd", "lr": 0.5, "epochs": 4, "schedule": "constant"}
    unaveraged = fit(plain, train, validation, Train(**settings), forward=forward)
    result = fit(model, train, validation, Train(**settings, ema=0.5), forward=forward, loss=noting)
    assert unaveraged.best_epoch == result.best_epoch == 4
    after = [*weights[1:], plain.weight.detach()]
    expected = after[0]
    for now in after[1:]:
        expected = 0.5 * expected + 0.5 * now
    assert torch.allclose(model.weight, expected, atol=1e-6)
    assert not torch.allclose(model.weight, plain.weight, atol=1e-3)


def test_validation_is_of_the_averaged_weights(blobs: Blobs) -> None:
    train, validation = blobs(24, 0), blobs(30, 1)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    result = fit(model, train, validation, Train(epochs=5, lr=0.05, batch_size=8, ema=0.8), forward=forward)
    kept = predict(model, {"input": torch.from_numpy(validation.inputs["input"])}, forward)
    loss = float(F.cross_entropy(kept, torch.from_numpy(validation.labels)))
    assert loss == pytest.approx(min(entry["validation_loss"] for entry in result.history), abs=1e-6)


def test_the_average_follows_optimizer_steps_and_not_batches(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    update = MovingAverage.update
    monkeypatch.setattr(MovingAverage, "update", lambda self, model: (calls.append(1), update(self, model))[1])
    settings = Train(epochs=2, batch_size=4, accumulate=3, ema=0.5)
    fit(nn.Linear(4, 3), blobs(24, 0), blobs(9, 1), settings, forward=forward)
    assert len(calls) == 2 * 2


def test_batch_norm_statistics_are_averaged_and_counters_and_masks_are_copied() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(2)
            self.register_buffer("index", torch.arange(50))
            self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
            self.register_buffer("keep", torch.tensor([True, False]))

    net = Net()
    average = MovingAverage(net, 0.9)
    means = []
    for step in range(1, 5):
        net.norm.running_mean = torch.full((2,), float(step))
        net.norm.num_batches_tracked += 1
        means.append(float(step))
        average.update(net)
    expected = means[0]
    for mean in means[1:]:
        expected = 0.9 * expected + 0.1 * mean
    averaged = average.model
    assert isinstance(averaged, Net)
    assert averaged.norm.running_mean is not None
    assert averaged.norm.running_mean.tolist() == pytest.approx([expected] * 2)
    assert int(averaged.norm.num_batches_tracked) == 4
    assert averaged.index.tolist() == list(range(50))
    assert averaged.mask.tolist() == [0.0, -np.inf]
    assert averaged.keep.tolist() == [True, False]


def test_two_averaged_runs_with_one_seed_are_bit_identical(blobs: Blobs) -> None:
    start = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 3))
    settings = Train(epochs=3, batch_size=8, ema=0.9, label_smoothing=0.1, class_weights="balanced", warmup_epochs=1)
    models = [copy.deepcopy(start) for _ in range(2)]
    for model in models:
        fit(model, blobs(24, 0), blobs(30, 1), settings, forward=forward)
    one, other = (model.state_dict() for model in models)
    assert all(torch.equal(one[key], other[key]) for key in one)
