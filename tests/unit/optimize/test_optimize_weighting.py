"""A row of weight w counts as w rows like it, in every loss and in the epoch at which training stops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trimtab.compress.distil import distil, distillation_loss, regression_loss
from trimtab.compress.hints import Hints
from trimtab.data import Split, from_arrays
from trimtab.optimize.batches import Batch
from trimtab.optimize.losses import recipe_loss
from trimtab.optimize.own import train_own
from trimtab.optimize.predicting import predict
from trimtab.optimize.record import validation_figures
from trimtab.optimize.training import fit
from trimtab.optimize.weighting import mean, scaled
from trimtab.recipe.schema import Distil, Train

Blobs = Callable[[int, int], Split]
LABELS = np.array([0, 0, 1, 2], np.int64)
COUNTS = np.array([1, 3, 2, 1])
WEIGHTS = COUNTS.astype(np.float32)
REPEATED = np.repeat(np.arange(4), COUNTS)


def logits(rows: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed))


def whole(labels: np.ndarray) -> Batch:
    return Batch({}, torch.from_numpy(labels), torch.arange(len(labels)))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"label_smoothing": 0.2},
        {"class_weights": [1, 4, 2]},
        {"class_weights": "balanced"},
        {"class_weights": "balanced", "label_smoothing": 0.1},
    ],
    ids=str,
)
def test_a_loss_with_weights_is_that_of_the_rows_repeated(settings: dict[str, Any]) -> None:
    train, answers = Train(**settings), logits()
    with_weights = recipe_loss(train, LABELS, 3, WEIGHTS)(answers, whole(LABELS))
    repeated = recipe_loss(train, LABELS[REPEATED], 3)(answers[REPEATED], whole(LABELS[REPEATED]))
    torch.testing.assert_close(with_weights, repeated)
    assert not torch.isclose(with_weights, recipe_loss(train, LABELS, 3)(answers, whole(LABELS)))


@pytest.mark.parametrize("loss", ["mse", "huber", "l1"])
def test_so_is_one_of_numbers(loss: Any) -> None:
    train, answers, labels = Train(loss=loss), logits(), logits(seed=1).numpy()
    with_weights = recipe_loss(train, labels, 3, WEIGHTS)(answers, whole(labels))
    repeated = recipe_loss(train, labels[REPEATED], 3)(answers[REPEATED], whole(labels[REPEATED]))
    torch.testing.assert_close(with_weights, repeated)


def test_so_are_distillation_and_hints() -> None:
    student, teacher, rows = logits(), logits(seed=1), scaled(WEIGHTS)
    labels, numbers = torch.from_numpy(LABELS), logits(seed=2)
    torch.testing.assert_close(
        distillation_loss(student, teacher, labels, 4.0, 0.9, rows),
        distillation_loss(student[REPEATED], teacher[REPEATED], labels[REPEATED], 4.0, 0.9),
    )
    torch.testing.assert_close(
        regression_loss(student, teacher, numbers, 0.9, rows),
        regression_loss(student[REPEATED], teacher[REPEATED], numbers[REPEATED], 0.9),
    )
    one, other = (torch.randn(4, 5, 2, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4))
    torch.testing.assert_close(
        Hints({"layer": one}, {"layer": other}).loss(rows),
        Hints({"layer": one[REPEATED]}, {"layer": other[REPEATED]}).loss(),
    )


def test_batches_of_any_size_add_up_to_the_weighted_mean() -> None:
    losses, rows = torch.tensor([1.0, 2.0, 3.0, 4.0]), scaled(WEIGHTS)
    alone = torch.stack([mean(losses[i : i + 1], rows[i : i + 1]) for i in range(4)]).mean()
    assert float(alone) == pytest.approx((1 * 1 + 3 * 2 + 2 * 3 + 1 * 4) / 7)


def test_full_batch_descent_takes_the_steps_of_the_rows_repeated(blobs: Blobs) -> None:
    train, validation = blobs(60, 0), blobs(60, 1)
    counts = np.where(np.arange(60) < 20, 3, 1)
    heavy = replace(train, weights=counts.astype(np.float32))
    settings = Train(optimizer="gd", lr=0.1, epochs=5, clip_norm=None)

    weighted, repeated, plain = (
        trained(split, validation, settings) for split in (heavy, train.take(np.repeat(np.arange(60), counts)), train)
    )

    torch.testing.assert_close(weighted, repeated)
    assert not torch.allclose(weighted, plain, rtol=1e-3, atol=1e-4)


def trained(train: Split, validation: Split, settings: Train) -> Tensor:
    torch.manual_seed(0)
    model = nn.Linear(train.inputs["input"].shape[1], 1 + int(train.labels.max()))
    fit(model, train, validation, settings, forward=lambda module, inputs: module(inputs["input"]))
    return model.weight.detach()


def test_a_student_follows_the_rows_that_weigh_more(blobs: Blobs) -> None:
    """Half of the rows have the labels turned round: with these weighing more, the student answers as they do."""
    base = blobs(80, 0)
    turned = from_arrays("train", {"input": base.inputs["input"]}, (1 + base.labels) % (1 + base.labels.max()))
    settings = Distil(alpha=0.0, epochs=20, lr=0.05)
    followed = []
    for weight in (0.01, 100.0):
        train = base.joined(turned.weighted(weight))
        torch.manual_seed(0)
        student, teacher = (nn.Linear(base.inputs["input"].shape[1], 1 + int(base.labels.max())) for _ in range(2))
        distil(student, teacher, train, train, settings, forward=lambda module, inputs: module(inputs["input"]), seed=0)
        few = {"input": torch.from_numpy(base.inputs["input"])}
        answers = predict(student, few, lambda module, inputs: module(inputs["input"])).argmax(1).numpy()
        followed.append((answers == turned.labels).mean())
    assert followed[0] < 0.3
    assert followed[1] > 0.7


def test_the_validation_loss_weighs_rows_and_its_accuracy_does_not() -> None:
    answers, labels = logits(), torch.from_numpy(LABELS)
    found = validation_figures(answers, labels, scaled(WEIGHTS))
    assert found["validation_loss"] == pytest.approx(float(F.cross_entropy(answers[REPEATED], labels[REPEATED])))
    assert found["validation_accuracy"] == validation_figures(answers, labels)["validation_accuracy"]


def test_a_training_of_the_users_own_is_given_the_weights(blobs: Blobs) -> None:
    train, validation = blobs(40, 0).weighted(2.0), blobs(40, 1)
    seen: list[Any] = []

    def own(model: nn.Module, train: Split, validation: Split) -> None:
        seen.extend([train.weights, validation.weights])
        assert train.weights is not None
        train.weights[:] = 0

    model = nn.Linear(train.inputs["input"].shape[1], 1 + int(train.labels.max()))
    train_own(own, model, train, validation, 0, None, forward=lambda module, inputs: module(inputs["input"]))

    assert seen[1] is None
    assert train.counted().tolist() == [2.0] * 40
