"""`train.search` is refused with the recipe, key by key, and not in the middle of a night of trials."""

from __future__ import annotations

import pytest

from trimtab.errors import RecipeError
from trimtab.recipe.load import parse_recipe
from trimtab.recipe.schema import Recipe

HEAD = "name: demo\nmodel: net:build\ndata: net:split\n"


def with_space(space: str, more: str = "") -> Recipe:
    return parse_recipe(f"{HEAD}train: {{{more} search: {{space: {{{space}}}}}}}\n")


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("", "train.search.space: {} is not allowed"),
        ("train.lrr: {low: 1, high: 2}", "train.search.space.train.lrr: {'low': 1, 'high': 2} is not allowed"),
        ("train.lrr: {low: 1, high: 2}", "did you mean train.lr?"),
        ("lr: {low: 1, high: 2}", "did you mean train.lr?"),
        ("model.callable: {choices: ['a:b']}", "no key of train or model.kwargs"),
        ("model.kwargs.a-b: {choices: [1]}", "no key of train or model.kwargs"),
        ("train.seed: {choices: [1, 2]}", "train.search.space.train.seed: {'choices': [1, 2]} is not allowed"),
        ("train.always: {choices: [true]}", "cannot be searched"),
        ("train.lr: {low: -1, high: 1}", "train.search.space.train.lr.low: -1 is not allowed"),
        ("train.momentum: {low: 0.5, high: 1.5}", "train.search.space.train.momentum.high: 1.5 is not allowed"),
        ("train.batch_size: {choices: [16, many]}", "train.search.space.train.batch_size.choices.1: 'many' is not"),
        ("train.batch_size: {low: 8.5, high: 64}", "train.search.space.train.batch_size.low: 8.5 is not allowed"),
        ("train.batch_size: {low: 8, high: 64, step: 0.5}", "train.search.space.train.batch_size.step: 0.5 is not"),
        ("train.nesterov: {low: 0, high: 1}", "a range is for numbers"),
        ("train.optimizer: {choices: [sgd, lion]}", "train.search.space.train.optimizer.choices.1: 'lion'"),
        ("train.lr: {}", "give low and high, or choices"),
        ("train.lr: {low: 1}", "give low and high, or choices"),
        ("train.lr: {low: 1, high: 2, choices: [1]}", "not both"),
        ("train.lr: {choices: []}", "train.search.space.train.lr.choices"),
        ("train.lr: {low: 2, high: 1}", "low (2) must be below high (1)"),
        ("train.lr: {low: 1, high: .inf}", "train.search.space.train.lr.high"),
        ("train.weight_decay: {low: 0, high: 1, log: true}", "log needs low above 0"),
        ("train.lr: {low: 1, high: 2, steps: 1}", "train.search.space.train.lr.steps: unknown key"),
        ("model.kwargs.widths: {choices: [[8, 8], [8, 8]]}", "the choice [8, 8] is there twice"),
        ("model.kwargs.when: {choices: [2020-01-01]}", "is no JSON value"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_by_key(space: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        with_space(space)
    assert said in str(caught.value)


def test_values_that_a_trial_could_not_combine_are_refused() -> None:
    space = "train.optimizer: {choices: [sgd, adamw]}, train.momentum: {low: 0.5, high: 0.9}"

    with pytest.raises(RecipeError, match=r"'adamw', 'momentum': 0\.5.*momentum is of optimizer: sgd"):
        with_space(space)
    with_space(space.replace(", adamw", ""))  # though momentum would not fit the recipe's own optimizer, adamw


def test_all_errors_of_a_space_are_told_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        with_space("train.lr: {low: -1, high: 1}, train.epochs: {choices: [0]}")
    assert "train.lr.low" in str(caught.value)
    assert "train.epochs.choices.0" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "train: {search: {objective: metric_and_latency, space: {train.lr: {low: 1, high: 2}}}}",
            "model.kwargs.<name>",
        ),
        (
            "model: {callable: 'n:b', weights: w}\ntrain: {search: {space: {train.lr: {low: 1, high: 2}}}}",
            "train.search would not run",
        ),
        (
            "model: {callable: 'n:b', train: 'n:t'}\ntrain: {search: {space: {train.lr: {low: 1, high: 2}}}}",
            "train.search.space.train.lr would change nothing",
        ),
    ],
)
def test_a_search_that_would_have_no_effect_is_refused(text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        parse_recipe(f"name: demo\nmodel: n:b\ndata: n:s\n{text}\n")


def test_values_replace_what_the_recipe_says_as_if_they_were_written_there() -> None:
    recipe = with_space("train.clip_value: {choices: [null, 0.5]}", "epochs: 7,")

    train = recipe.train.with_values({"clip_value": 0.5, "lr": "1e-3"})

    assert (train.epochs, train.lr, train.search) == (7, 0.001, None)
    assert (train.clip_value, train.clip_norm) == (0.5, None)  # as where clip_value is written: no norm by default
