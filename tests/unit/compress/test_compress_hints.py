"""Feature hints: inner outputs come nearer to the original's, at modules that fit, or it is said which do not."""

from __future__ import annotations

import copy
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trimtab.compress.distil import distil
from trimtab.compress.hints import Hints, hint_layers, outputs_of
from trimtab.data import Split, from_arrays
from trimtab.errors import UnsupportedError
from trimtab.optimize.predicting import predict
from trimtab.recipe.schema import Distil


def forward(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    answer: Tensor = model(inputs["input"])
    return answer


@pytest.fixture(scope="module")
def rows() -> Split:
    values = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
    return from_arrays("train", {"input": values}, np.arange(300) % 3)


def network(inner: int, seed: int, outer: int = 5) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = {"wide": nn.Linear(6, inner), "tanh": nn.Tanh(), "narrow": nn.Linear(inner, outer)}
        return nn.Sequential(OrderedDict({**parts, "head": nn.Linear(outer, 3)}))


def features(model: nn.Module, split: Split) -> Tensor:
    with outputs_of(model, ["narrow"]) as noted:
        predict(model, {"input": torch.from_numpy(split.inputs["input"])}, forward, batch=len(split))
    return noted["narrow"]


def test_with_hints_inner_outputs_come_nearer_to_the_originals(rows: Split) -> None:
    teacher = network(16, seed=0)
    distance = {}
    for hints in (0.0, 10.0):
        student = network(8, seed=1)
        # More rows than a forward of `predict` takes by default, so that hints of a part of the batch would be seen.
        settings = Distil(epochs=20, lr=0.02, batch_size=300, hints=hints)
        distil(student, teacher, rows, rows, settings, forward, seed=0)
        distance[hints] = float((features(student, rows) - features(teacher, rows)).square().mean())
        assert not any(module._forward_hooks for network in (student, teacher) for module in network.modules())
    assert distance[10.0] < 0.5 * distance[0.0]


def test_the_loss_is_the_mean_over_modules_of_the_squared_error() -> None:
    own = {"a": torch.tensor([[1.0, 2.0]]), "b": torch.zeros(1, 4)}
    theirs = {"b": torch.full((1, 4), 2.0), "a": torch.tensor([[1.0, 4.0]])}
    assert float(Hints(own, theirs).loss()) == (2 + 4) / 2


def test_by_default_hints_are_at_children_that_keep_their_shape_and_not_at_the_logits(rows: Split) -> None:
    assert hint_layers(network(8, 1), network(16, 0), rows, forward) == ("narrow",)
    wrapped = [nn.Sequential(OrderedDict(net=network(inner, 0))) for inner in (8, 16)]
    assert hint_layers(wrapped[0], wrapped[1], rows, forward) == ("net.narrow",)


def test_hints_see_the_augmented_rows_in_both(rows: Split) -> None:
    """A student that is its teacher has nothing to learn from hints, unless they compare different rows."""
    teacher = network(8, 0)
    student = copy.deepcopy(teacher)

    def noise(inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        return {"input": inputs["input"] + torch.randn(inputs["input"].shape, generator=generator)}

    settings = Distil(epochs=1, alpha=1.0, hints=1.0)
    result = distil(student, teacher, rows, rows, settings, forward, seed=0, augment=noise)
    assert result.history[0]["train_loss"] < 1e-3


def test_modules_that_do_not_fit_are_named_with_the_reason(rows: Split) -> None:
    student, teacher = network(8, 1), network(16, 0)
    with pytest.raises(UnsupportedError, match=r"wide \(\(8,\) in the student, \(16,\) in the original\), nowhere"):
        hint_layers(student, teacher, rows, forward, ["narrow", "wide", "nowhere"])
    with pytest.raises(UnsupportedError, match=r"no top-level module.*wide \(\(8,\).*narrow \(\(4,\)"):
        distil(network(8, 1, outer=4), teacher, rows, rows, Distil(hints=1.0), forward, seed=0)


def test_layers_without_a_weight_are_refused() -> None:
    with pytest.raises(ValueError, match="while hints is 0"):
        Distil(hint_layers=["narrow"])
