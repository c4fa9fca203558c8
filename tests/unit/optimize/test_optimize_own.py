"""A user's own training function: by seed, judged, and its mistakes named."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trimtab.data import Split
from trimtab.errors import ModelError, UserCodeError
from trimtab.optimize.own import train_own
from trimtab.optimize.predicting import predict
from trimtab.optimize.record import Fit

Blobs = Callable[[int, int], Split]


def forward(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return model(inputs["input"])


def network() -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Linear(4, 3)


def descend(model: nn.Module, train: Split, validation: Split) -> None:
    step = torch.optim.SGD(model.parameters(), lr=0.5)
    rows = torch.randperm(len(train))[:20]
    for _ in range(5):
        step.zero_grad()
        F.cross_entropy(
            model(torch.from_numpy(train.inputs["input"])[rows]), torch.from_numpy(train.labels)[rows]
        ).backward()
        step.step()


def run(function: Any, blobs: Blobs, seed: int = 0) -> tuple[nn.Module, Fit]:
    return train_own(function, network(), blobs(30, 0), blobs(30, 1), seed, 1, forward=forward)


def test_a_model_trained_in_place_is_judged_on_validation(blobs: Blobs) -> None:
    model, result = run(descend, blobs)
    validation = blobs(30, 1)
    logits = predict(model, {"input": torch.from_numpy(validation.inputs["input"])}, forward)
    (entry,) = result.history
    assert entry["validation_loss"] == pytest.approx(
        float(F.cross_entropy(logits, torch.from_numpy(validation.labels)))
    )
    assert entry["validation_accuracy"] == float((logits.argmax(1).numpy() == validation.labels).mean(dtype=np.float32))
    assert (result.epochs_run, result.best_epoch) == (1, 1)
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_returned_module_is_the_trained_one(blobs: Blobs) -> None:
    other = nn.Linear(4, 3)
    model, _ = run(lambda model, train, validation: other, blobs)
    assert model is other


def test_the_same_seed_gives_the_same_weights_and_global_states_are_kept(blobs: Blobs) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()

    def careless(model: nn.Module, train: Split, validation: Split) -> None:
        descend(model, train, validation)
        random.random()
        np.random.rand()
        torch.set_grad_enabled(False)
        torch.set_num_threads(2)

    one, again, other = (run(careless, blobs, seed)[0] for seed in (0, 0, 1))
    assert torch.equal(one.weight, again.weight)
    assert not torch.equal(one.weight, other.weight)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]
    assert torch.is_grad_enabled()
    assert torch.get_num_threads() == 1


def test_what_it_does_to_its_arrays_does_not_reach_ours(blobs: Blobs) -> None:
    def scale(model: nn.Module, train: Split, validation: Split) -> None:
        for split in (train, validation):
            split.inputs["input"][:] = 0
            split.labels[:] = 0

    train, validation = blobs(30, 0), blobs(30, 1)
    train_own(scale, network(), train, validation, 0, 1, forward=forward)
    assert train.inputs["input"].any()
    assert validation.labels.any()


def test_its_exception_is_the_users_with_their_traceback(blobs: Blobs) -> None:
    def mine(*_: Any) -> None:
        raise KeyError("learning_rate")

    with pytest.raises(UserCodeError, match="mine raised KeyError: 'learning_rate'") as caught:
        run(mine, blobs)
    assert "test_optimize_own.py" in caught.value.what
    assert 'own.py", line' not in caught.value.what.replace("test_optimize_own.py", "")


def test_something_that_is_no_module_is_refused(blobs: Blobs) -> None:
    with pytest.raises(ModelError, match="returned dict, not an"):
        run(lambda *_: {"loss": 1.0}, blobs)


def test_a_module_whose_weights_would_not_load_is_refused(blobs: Blobs) -> None:
    with pytest.raises(ModelError, match=r"differ by name or shape from the model's, first bias: \(2,\), was \(3,\)"):
        run(lambda *_: nn.Linear(4, 2), blobs)
    with pytest.raises(ModelError, match=r"first 0\.bias"):
        run(lambda model, *_: nn.Sequential(model), blobs)


def test_another_number_of_classes_is_refused(blobs: Blobs) -> None:
    class Short(nn.Linear):
        def forward(self, values: Tensor) -> Tensor:
            return super().forward(values)[:, :2]

    with pytest.raises(ModelError, match="gives 2 logits, before it gave 3"):
        run(lambda *_: Short(4, 3), blobs)


def test_weights_that_are_not_finite_are_named(blobs: Blobs) -> None:
    def diverge(model: nn.Module, train: Split, validation: Split) -> None:
        with torch.no_grad():
            model.bias[0] = float("nan")

    with pytest.raises(ModelError, match="NaN or infinity: bias"):
        run(diverge, blobs)


def test_a_forward_that_no_longer_works_is_the_users(blobs: Blobs) -> None:
    with pytest.raises(UserCodeError, match="forward of the trained model raised RuntimeError"):
        run(lambda model, *_: model.double(), blobs)
