"""What a space means: for Optuna, for the settings, for the identity of what is trained with a point of it."""

from __future__ import annotations

from typing import Any

import optuna
from hypothesis import given
from hypothesis import strategies as st

from trimtab.candidate import Candidate, InputsDigest, Step
from trimtab.optimize.space import applied, decoded, distributions, own_values, values_of
from trimtab.recipe.load import parse_recipe
from trimtab.recipe.schema import Recipe, Search, Train


def recipe_with(space: str, kwargs: str = "{}", train: str = "") -> tuple[Recipe, Search]:
    recipe = parse_recipe(
        f"name: demo\nmodel: {{callable: 'n:b', kwargs: {kwargs}}}\ndata: n:s\n"
        f"train: {{{train} search: {{space: {{{space}}}}}}}\n"
    )
    assert recipe.train.search is not None
    return recipe, recipe.train.search


def test_a_setting_is_whole_where_train_makes_it_so_and_an_argument_where_it_is_written_so() -> None:
    _, search = recipe_with(
        "train.batch_size: {low: 8.0, high: 64.0}, train.lr: {low: 1, high: 2}, train.momentum: {low: 0, high: 0.9},"
        "model.kwargs.blocks: {low: 1, high: 3}, model.kwargs.dropout: {low: 0, high: 0.5}",
        train="optimizer: sgd,",
    )

    kinds = {key: type(found).__name__.removesuffix("Distribution") for key, found in distributions(search).items()}

    assert list(kinds.values()) == ["Int", "Float", "Float", "Int", "Float"]


def test_a_range_in_steps_ends_at_its_last_step() -> None:
    _, search = recipe_with(
        "train.batch_size: {low: 16, high: 60, step: 16}, model.kwargs.p: {low: 0, high: 0.3, step: 0.1}"
    )
    found: dict[str, Any] = distributions(search)

    assert (found["train.batch_size"].high, found["train.batch_size"].step) == (48, 16)
    assert abs(found["model.kwargs.p"].high - 0.3) < 1e-12


def test_choices_of_any_kind_come_back_as_they_were_written() -> None:
    choices = [[8, 16], None, True, 1, "1", {"a": [1.5]}]
    search = Search(space={"model.kwargs.x": {"choices": choices}})
    space = distributions(search)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    drawn = [decoded(study.ask(space).params, search)["model.kwargs.x"] for _ in range(60)]

    assert {repr(value) for value in drawn} == {repr(choice) for choice in choices}


def test_the_first_trial_has_the_recipes_own_values_where_they_lie_in_the_space() -> None:
    recipe, search = recipe_with(
        "train.lr: {choices: [1e-3, 3e-3]}, train.batch_size: {low: 16, high: 64, step: 16}, "
        "train.weight_decay: {low: 0.1, high: 0.2}, train.epochs: {low: 10, high: 50, step: 25}, "
        "model.kwargs.hidden: {choices: [[8], [16]]}, model.kwargs.p: {low: 0, high: 1}, "
        "model.kwargs.flag: {choices: [1, 0]}",
        kwargs="{hidden: [16], flag: true}",
    )

    first = own_values(recipe, search)

    # Not the weight decay of 0.01, 40 epochs, between two steps, p, which is not given, or true, which is not 1.
    assert first == {"train.lr": '"3e-3"', "train.batch_size": 32, "model.kwargs.hidden": "[16]"}
    assert applied(recipe.train, decoded(first, search))[0].lr == recipe.train.lr


@given(lr=st.floats(1e-6, 1.0), hidden=st.lists(st.integers(1, 64), min_size=1, max_size=3))
def test_what_an_original_was_made_with_is_read_back_from_its_lineage(lr: float, hidden: list[int]) -> None:
    search = Search(
        space={"train.lr": {"low": 1e-6, "high": 1.0}, "model.kwargs.hidden": {"choices": [[1], [2]]}},
    )
    values = {"train.lr": lr, "model.kwargs.hidden": hidden}
    settings, kwargs = applied(Train(), values)
    step = Step("train", {**settings.model_dump(mode="json", exclude={"search"}), "model_kwargs": kwargs}, 0)
    original = Candidate((step,), InputsDigest("d", "w", "c", "v"))

    assert values_of(Candidate.from_json(original.to_json()), search) == values
    plain = Candidate((Step("train", settings.model_dump(mode="json", exclude={"search"}), 0),), original.inputs)
    assert values_of(plain, search) is None  # it does not say how wide it is
