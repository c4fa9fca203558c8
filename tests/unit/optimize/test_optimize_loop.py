"""The loop against one written out in plain torch: defaults, accumulation, clipping, precision, gradient descent."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import RandomSampler

from trimtab.data import Split
from trimtab.errors import UnsupportedError
from trimtab.optimize import precision
from trimtab.optimize.batches import Batch
from trimtab.optimize.training import Fit, fit
from trimtab.recipe.schema import Train

Blobs = Callable[[int, int], Split]


def forward(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return model(inputs["input"])


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def trained(train: Split, validation: Split, **settings: Any) -> tuple[nn.Sequential, Fit]:
    model = network()
    return model, fit(model, train, validation, Train(**settings), forward=forward)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def plain_loop(split: Split, epochs: int, optimizer: str, seed: int) -> nn.Module:
    """The defaults written down: AdamW or SGD with momentum, a cosine over all steps, norm 1; its last weights."""
    model = network()
    x, y = torch.from_numpy(split.inputs["input"]), torch.from_numpy(split.labels)
    step: torch.optim.Optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    if optimizer == "sgd":
        step = torch.optim.SGD(model.parameters(), lr=3e-3, weight_decay=1e-2, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(step, T_max=epochs * math.ceil(len(y) / 32))
    order = RandomSampler(range(len(y)), generator=torch.Generator().manual_seed(seed))
    for _ in range(epochs):
        rows = torch.tensor(list(order))
        for batch in rows.split(32):
            step.zero_grad()
            F.cross_entropy(model(x[batch]), y[batch]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            step.step()
            schedule.step()
    return model


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_defaults_train_to_the_weights_of_a_plain_loop(blobs: Blobs, optimizer: str) -> None:
    train = blobs(72, 0)
    model, result = trained(train, train, epochs=3, seed=5, optimizer=optimizer)
    assert result.best_epoch == 3
    assert torch.equal(weights(model), weights(plain_loop(train, 3, optimizer, seed=5)))


@pytest.mark.parametrize("rows", [32, 44])
def test_two_batches_of_8_accumulated_equal_one_of_16(blobs: Blobs, rows: int) -> None:
    # 44 rows: the last step has 12, batches of 8 and 4, which must weigh 2 to 1.
    train = blobs(rows, 0)
    settings = {"epochs": 2, "optimizer": "sgd", "lr": 0.1}
    whole, one = trained(train, train, batch_size=16, **settings)
    parts, other = trained(train, train, batch_size=8, accumulate=2, **settings)
    assert torch.allclose(weights(whole), weights(parts), atol=1e-6)
    assert not torch.allclose(weights(whole), weights(network()), atol=1e-3)
    assert one.history[-1]["train_loss"] == pytest.approx(other.history[-1]["train_loss"], abs=1e-5)


def test_the_last_step_of_an_epoch_is_on_the_mean_of_its_own_rows(blobs: Blobs) -> None:
    # 40 rows in batches of 8, 3 accumulated: steps on 24 and 16 rows. With gd's plain SGD each is worked out by hand.
    train = blobs(40, 0)
    model, _ = trained(
        train, train, epochs=1, batch_size=8, accumulate=3, optimizer="sgd", momentum=0, weight_decay=0, lr=0.5,
        schedule="constant", clip_norm=None,
    )  # fmt: skip
    own = network()
    step = torch.optim.SGD(own.parameters(), lr=0.5)
    x, y = torch.from_numpy(train.inputs["input"]), torch.from_numpy(train.labels)
    rows = torch.tensor(list(RandomSampler(range(40), generator=torch.Generator().manual_seed(0))))
    for batch in rows.split(24):
        step.zero_grad()
        F.cross_entropy(own(x[batch]), y[batch]).backward()
        step.step()
    assert torch.allclose(weights(model), weights(own), atol=1e-6)


def largest_change(train: Split, **settings: Any) -> float:
    """Of a single weight in one step of plain SGD at rate 1: the largest gradient element after clipping."""
    model, _ = trained(train, train, optimizer="gd", lr=1.0, weight_decay=0, epochs=1, schedule="constant", **settings)
    return float((weights(model) - weights(network())).abs().max())


def test_clip_value_bounds_every_element_and_clip_norm_the_whole(blobs: Blobs) -> None:
    train = blobs(24, 0)
    free = largest_change(train, clip_norm=None)
    assert free > 0.05
    assert largest_change(train, clip_value=0.01) == pytest.approx(0.01, rel=1e-3)
    model, _ = trained(
        train, train, optimizer="gd", lr=1.0, weight_decay=0, epochs=1, schedule="constant", clip_norm=0.1
    )
    assert float((weights(model) - weights(network())).norm()) == pytest.approx(0.1, rel=1e-3)


def test_gd_takes_one_step_an_epoch_on_all_rows(blobs: Blobs) -> None:
    train = blobs(33, 0)
    seen: list[int] = []

    def noting(logits: Tensor, batch: Batch) -> Tensor:
        seen.append(len(set(batch.rows.tolist())))
        return F.cross_entropy(logits, batch.labels)

    settings = Train(optimizer="gd", epochs=3, batch_size=8)
    fit(network(), train, train, settings, forward=forward, loss=noting)
    assert seen == [33, 33, 33]


def test_the_history_has_the_rate_an_epoch_was_trained_with(blobs: Blobs) -> None:
    train = blobs(24, 0)
    settings = {"epochs": 4, "lr": 0.8, "optimizer": "gd", "warmup_epochs": 3, "schedule": "constant"}
    _, result = trained(train, train, **settings)
    assert [entry["lr"] for entry in result.history] == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_the_plateau_falls_on_the_validation_loss_of_the_training(blobs: Blobs) -> None:
    few = blobs(24, 1).take(slice(0, 3))
    _, result = trained(blobs(24, 0), few, epochs=12, lr=1.0, schedule="plateau", step_epochs=1, patience=12)
    expected, rate, best = [], 1.0, float("inf")
    for entry in result.history:
        expected.append(rate)
        rate, best = (rate, entry["validation_loss"]) if entry["validation_loss"] < best else (rate / 2, best)
    assert [entry["lr"] for entry in result.history] == expected
    assert rate < 1.0


def test_bf16_trains_near_fp32_and_repeatably_or_is_refused(blobs: Blobs) -> None:
    train = blobs(48, 0)
    settings = {"epochs": 3, "lr": 0.05, "batch_size": 16}
    if not precision.cpu_has_bf16():
        with pytest.raises(UnsupportedError, match="bf16"):
            trained(train, train, precision="bf16", **settings)
        return
    full, _ = trained(train, train, **settings)
    half, result = trained(train, train, precision="bf16", **settings)
    again, _ = trained(train, train, precision="bf16", **settings)
    assert torch.equal(weights(half), weights(again))
    assert weights(half).dtype == torch.float32
    assert not torch.equal(weights(half), weights(full))
    assert torch.allclose(weights(half), weights(full), atol=0.1)
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]


def test_the_loss_of_bf16_products_is_computed_in_fp32(blobs: Blobs) -> None:
    raw: list[torch.dtype] = []
    given: list[torch.dtype] = []

    def noting_forward(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        logits: Tensor = model(inputs["input"])
        raw.append(logits.dtype)
        return logits

    def noting_loss(logits: Tensor, batch: Batch) -> Tensor:
        given.append(logits.dtype)
        return F.cross_entropy(logits, batch.labels)

    train = blobs(24, 0)
    settings = Train(epochs=1, batch_size=24, precision="bf16")
    if not precision.cpu_has_bf16():
        with pytest.raises(UnsupportedError, match="bf16"):
            fit(network(), train, train, settings, forward=noting_forward, loss=noting_loss)
        return
    fit(network(), train, train, settings, forward=noting_forward, loss=noting_loss)
    # The check of classes and the validation are in fp32, the one batch between them is not.
    assert raw == [torch.float32, torch.bfloat16, torch.float32]
    assert given == [torch.float32]


def test_a_cpu_without_bf16_is_told_and_nothing_is_trained(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: False)
    train, model = blobs(24, 0), network()
    with pytest.raises(UnsupportedError, match="no bf16 kernels") as caught:
        fit(model, train, train, Train(precision="bf16"), forward=forward)
    assert caught.value.where == "train.precision"
    assert torch.equal(weights(model), weights(network()))
