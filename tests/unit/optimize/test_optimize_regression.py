"""Training on numbers: the loss of the recipe, and shapes that would broadcast."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from trimtab.data import Split, from_arrays
from trimtab.errors import ModelError
from trimtab.optimize.batches import Batch
from trimtab.optimize.losses import recipe_loss
from trimtab.optimize.training import fit
from trimtab.preprocess import numbers
from trimtab.recipe.schema import Preprocess, Train

WEIGHTS = np.array([[2.0], [-1.0], [0.5]], np.float32)


def rows(name: str, seed: int, outputs: int = 1) -> Split:
    values = np.random.default_rng(seed).normal(size=(96, 3)).astype(np.float32)
    return from_arrays(name, {"input": values}, np.repeat(values @ WEIGHTS, outputs, axis=1))


def forward(model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return numbers(model, inputs, Preprocess())


class Squeezed(nn.Linear):
    """Answers (n,), as many do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).squeeze(-1)


def test_a_model_that_answers_one_axis_learns_and_is_not_broadcast() -> None:
    result = fit(Squeezed(3, 1), rows("train", 0), rows("validation", 1), Train(epochs=30, lr=0.1), forward=forward)
    assert result.best["validation_rmse"] < 0.05
    assert set(result.best) == {"validation_rmse", "validation_mae"}


@pytest.mark.parametrize(
    ("name", "expected"), [(None, F.mse_loss), ("mse", F.mse_loss), ("huber", F.huber_loss), ("l1", F.l1_loss)]
)
def test_the_loss_is_the_one_the_recipe_names(name: str | None, expected: object) -> None:
    labels = np.array([[0.0], [5.0]], np.float32)
    answers = torch.tensor([[0.5], [1.0]])
    loss = recipe_loss(Train(loss=name), labels, 1)(answers, Batch({}, torch.from_numpy(labels), torch.arange(2)))
    assert loss == expected(answers, torch.from_numpy(labels))  # type: ignore[operator]


def test_another_number_of_outputs_than_labels_is_refused() -> None:
    with pytest.raises(ModelError, match="gives 1 numbers a row, a label has 2"):
        fit(nn.Linear(3, 1), rows("train", 0, 2), rows("validation", 1, 2), Train(epochs=1), forward=forward)
