"""Recipes with task: regression, and that those without it are identified as they always were."""

from __future__ import annotations

import pytest

from trimtab.candidate import Candidate, InputsDigest, Step, digest_of
from trimtab.compress.search import plan
from trimtab.errors import RecipeError
from trimtab.recipe.load import parse_recipe
from trimtab.recipe.template import template

HEAD = "name: a\nmodel: m:b\ndata: d:s\n"
REGRESSION = f"{HEAD}task: regression\n"
INPUTS = InputsDigest("d", "w", "c", "v")


def test_candidates_of_a_classifier_keep_the_ids_they_had_before_there_was_regression() -> None:
    from types import SimpleNamespace
    from typing import Any

    from trimtab.optimize.original import planned_original

    recipe = parse_recipe(f"{HEAD}compress: {{search: null}}\n")
    bench: Any = SimpleNamespace(recipe=recipe, new_rows=None, inputs=INPUTS)
    made = [Candidate((Step("given"), *steps), INPUTS).id for steps in plan(recipe.compress, 0, recipe.targets)]

    assert planned_original(bench, None).id == "61ce0fe38d0de8b9"
    assert digest_of(made)[:16] == "16f3415b9adf6686"


def test_the_identity_of_a_classifier_s_recipe_names_nothing_that_only_regression_has() -> None:
    identity = parse_recipe(HEAD).identity()

    assert "metric" not in identity
    assert "loss" not in identity["train"]
    assert "tolerance" not in identity["verify"]


@pytest.mark.parametrize(
    "change", ["metric: mae\n", "train: {loss: huber}\n", "verify: {tolerance: 0.2}\n"], ids=lambda text: text[:6]
)
def test_what_changes_a_regression_changes_its_identity(change: str) -> None:
    assert parse_recipe(REGRESSION + change).identity() != parse_recipe(REGRESSION).identity()


@pytest.mark.parametrize(("metric", "expected"), [("", "rmse"), ("metric: r2\n", "r2")])
def test_a_regression_is_judged_by_rmse_unless_it_says_otherwise(metric: str, expected: str) -> None:
    assert parse_recipe(REGRESSION + metric).purpose.metric == expected


def test_a_regression_has_no_search_over_shapes_by_default_and_keeps_the_other_methods() -> None:
    compress = parse_recipe(REGRESSION + "compress: {half: {}}\n").compress
    assert compress.search is None
    assert compress.prune is not None
    assert compress.half is not None


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ("labels: [a, b]\n", "labels are names of classes"),
        ("metric: accuracy\n", "metric: accuracy is of task: classification"),
        ("train: {label_smoothing: 0.1}\n", "train.label_smoothing"),
        ("train: {class_weights: balanced}\n", "train.class_weights"),
        ("train: {search: {space: {train.lr: {low: 0.001, high: 0.1}}}}\n", "train.search"),
        ("compress: {search: {}}\n", "compress.search"),
        ("compress: {distil: {temperature: 2}}\n", "compress.distil.temperature"),
        ("compress: {quantize: {max_drop: 0.1}}\n", "compress.quantize.max_drop"),
        ("budget: {max_calibration_rise: 0.1}\n", "budget.max_calibration_rise"),
        ("budget: {max_slice_drop: 0.1}\n", "needs verify.slices"),
    ],
)
def test_keys_that_do_not_fit_regression_are_refused_by_name(more: str, named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        parse_recipe(REGRESSION + more)


@pytest.mark.parametrize("more", ["metric: rmse\n", "train: {loss: l1}\n", "verify: {tolerance: 0.2}\n"])
def test_keys_of_regression_are_refused_without_it(more: str) -> None:
    with pytest.raises(RecipeError, match="is of task: regression"):
        parse_recipe(HEAD + more)


def test_the_template_of_a_regression_is_a_valid_recipe_of_one() -> None:
    assert parse_recipe(template(task="regression")).purpose.regression
