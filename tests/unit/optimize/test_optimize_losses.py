"""The recipe's loss: smoothing and class weights as torch computes them, checked against the classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trimtab.data import Split
from trimtab.errors import DataError, RecipeError
from trimtab.optimize.batches import Batch
from trimtab.optimize.losses import balanced_weights, class_weights, recipe_loss
from trimtab.optimize.training import fit
from trimtab.recipe.schema import Train

Blobs = Callable[[int, int], Split]


LABELS = np.array([0, 0, 0, 1, 2, 2], np.int64)


def batch(labels: Tensor) -> Batch:
    return Batch({}, labels, torch.arange(len(labels)))


def test_label_smoothing_is_that_of_torch() -> None:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    target = torch.from_numpy(LABELS)
    smooth = recipe_loss(Train(label_smoothing=0.2), LABELS, 3)(logits, batch(target))
    assert torch.equal(smooth, F.cross_entropy(logits, target, label_smoothing=0.2))
    # By hand: 0.8 of the label's and 0.2 / 3 of every class's negative log-probability.
    log = F.log_softmax(logits, 1)
    by_hand = -(0.8 * log[torch.arange(6), target] + 0.2 * log.mean(1)).mean()
    assert float(smooth) == pytest.approx(float(by_hand), abs=1e-6)


def test_without_settings_it_is_plain_cross_entropy_to_the_bit() -> None:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    target = torch.from_numpy(LABELS)
    assert torch.equal(recipe_loss(Train(), LABELS, 3)(logits, batch(target)), F.cross_entropy(logits, target))


def test_balanced_weights_are_rows_over_classes_times_rows_of_the_class() -> None:
    assert balanced_weights(LABELS, 3).tolist() == pytest.approx([6 / (3 * 3), 6 / (3 * 1), 6 / (3 * 2)])


def test_weights_multiply_each_rows_loss() -> None:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    target = torch.from_numpy(LABELS)
    given = torch.tensor([1.0, 4.0, 2.0])
    loss = recipe_loss(Train(class_weights=[1, 4, 2]), LABELS, 3)(logits, batch(target))
    rows = F.cross_entropy(logits, target, reduction="none") * given[target]
    assert float(loss) == pytest.approx(float(rows.sum() / given[target].sum()), abs=1e-6)


def test_a_list_of_another_length_than_the_classes_is_refused(blobs: Blobs) -> None:
    with pytest.raises(RecipeError, match="2 weights, the model has 3 classes") as caught:
        fit(
            nn.Linear(4, 3),
            blobs(12, 0),
            blobs(12, 1),
            Train(class_weights=[1, 2]),
            forward=lambda model, inputs: model(inputs["input"]),
        )
    assert caught.value.where == "train.class_weights"


def test_a_class_without_rows_cannot_be_balanced() -> None:
    with pytest.raises(DataError, match="no training row of class 3"):
        class_weights(Train(class_weights="balanced"), LABELS, 4)


def test_a_loss_of_the_callers_own_is_neither_smoothed_nor_weighted(blobs: Blobs) -> None:
    def trained(settings: Train) -> Tensor:
        torch.manual_seed(0)
        model = nn.Linear(4, 3)
        fit(
            model,
            blobs(12, 0),
            blobs(12, 1),
            settings,
            forward=lambda module, inputs: module(inputs["input"]),
            loss=lambda logits, batch: F.cross_entropy(logits, batch.labels),
        )
        return model.weight

    assert torch.equal(trained(Train(epochs=2)), trained(Train(epochs=2, label_smoothing=0.3)))
