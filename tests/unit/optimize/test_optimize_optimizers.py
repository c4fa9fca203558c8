"""Optimizers by name: the right class with the right arguments, and options refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from trimtab.errors import RecipeError
from trimtab.optimize.optimizers import OPTIMIZERS, allowed_options, check_options, optimizer_for
from trimtab.recipe.schema import Train


def made(**settings: Any) -> torch.optim.Optimizer:
    return optimizer_for(Train(**settings), nn.Linear(2, 2).parameters())


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_the_class_rate_and_decay_are_those_of_the_recipe(name: str) -> None:
    optimizer = made(optimizer=name, lr=0.25, weight_decay=0.125)
    assert type(optimizer) is OPTIMIZERS[name]
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (0.25, 0.125)


def test_sgd_has_momentum_by_default_and_gd_has_none() -> None:
    assert made(optimizer="sgd").defaults["momentum"] == 0.9
    assert made(optimizer="sgd", momentum=0).defaults["momentum"] == 0
    assert made(optimizer="sgd", momentum=0.5, nesterov=True).defaults["nesterov"] is True
    assert made(optimizer="gd").defaults["momentum"] == 0


def test_options_reach_the_torch_class() -> None:
    assert list(made(optimizer="adamw", optimizer_options={"betas": [0.8, 0.9]}).defaults["betas"]) == [0.8, 0.9]
    assert made(optimizer="rmsprop", optimizer_options={"momentum": 0.3}).defaults["momentum"] == 0.3


def test_a_number_that_yaml_reads_as_text_is_a_number() -> None:
    assert made(optimizer="adam", optimizer_options={"eps": "1e-6"}).defaults["eps"] == 1e-6


def test_an_unknown_option_is_refused_by_name_with_what_is_allowed() -> None:
    with pytest.raises(RecipeError, match="beta is not an option of optimizer: adamw") as caught:
        made(optimizer_options={"beta": 0.9})
    assert caught.value.where == "train.optimizer_options"
    assert "did you mean betas?" in caught.value.fix
    assert "amsgrad" in caught.value.fix


@pytest.mark.parametrize(
    ("optimizer", "key"), [("adam", "lr"), ("adagrad", "weight_decay"), ("sgd", "momentum"), ("sgd", "nesterov")]
)
def test_an_option_with_a_key_of_its_own_is_sent_there(optimizer: str, key: str) -> None:
    with pytest.raises(RecipeError, match=f"{key} has a key of its own") as caught:
        made(optimizer=optimizer, optimizer_options={key: 0.1})
    assert caught.value.fix == f"set train.{key}"


@pytest.mark.parametrize(("optimizer", "key"), [("gd", "momentum"), ("adam", "capturable"), ("sgd", "differentiable")])
def test_options_that_cannot_work_here_are_not_allowed(optimizer: str, key: str) -> None:
    with pytest.raises(RecipeError, match=f"{key} is not an option"):
        check_options(Train(optimizer=optimizer, optimizer_options={key: True}))
    assert key not in allowed_options(optimizer)


@pytest.mark.parametrize("options", [{"betas": [2, 3]}, {"betas": 0.9}, {"betas": [0.9]}, {"eps": -1}])
def test_a_value_that_torch_refuses_is_an_error_of_the_recipe(options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="AdamW refuses") as caught:
        made(optimizer_options=options)
    assert caught.value.where == "train.optimizer_options"
