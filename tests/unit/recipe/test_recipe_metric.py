"""`metric` of a classifier: what is refused beside it, and when it is part of a recipe's identity."""

from __future__ import annotations

import pytest

from trimtab.errors import RecipeError
from trimtab.recipe.load import parse_recipe
from trimtab.task import Task

HEAD = "name: a\nmodel: m:b\ndata: d:s\n"


@pytest.mark.parametrize("metric", ["f1", "roc_auc", "log_loss"])
def test_a_classifier_may_be_judged_by_another_metric_with_its_search_on(metric: str) -> None:
    recipe = parse_recipe(f"{HEAD}metric: {metric}\n")
    assert recipe.purpose == Task("classification", metric)  # type: ignore[arg-type]
    assert recipe.compress.search is not None
    assert recipe.identity()["metric"] == metric


@pytest.mark.parametrize("more", ["", "metric: accuracy\n"])
def test_accuracy_is_no_part_of_the_identity_whether_it_is_said_or_not(more: str) -> None:
    assert "metric" not in parse_recipe(HEAD + more).identity()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("metric: rmse\n", "metric: rmse is of task: regression; give accuracy, f1, roc_auc or log_loss"),
        ("task: regression\nmetric: f1\n", "metric: f1 is of task: classification; give rmse, mae or r2"),
        ("metric: f2\n", "'f2' is not allowed"),
        ("metric: f1\ncompress: {quantize: {max_drop: 0.01}}\n", "compress.quantize.max_drop is of metric: accuracy"),
        (
            "metric: f1\ntrain: {search: {space: {train.lr: {low: 0.1, high: 0.2}}}}\n",
            "train.search is of metric: accuracy so far",
        ),
    ],
)
def test_what_does_not_fit_is_refused(more: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        parse_recipe(HEAD + more)
