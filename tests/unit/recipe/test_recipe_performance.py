"""Which metric decides: refused where it does not fit, and no part of what results are identified by."""

from __future__ import annotations

import pytest

from trimtab.errors import RecipeError
from trimtab.recipe.load import parse_recipe

HEAD = "name: a\nmodel: m:b\ndata: d:s\n"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("monitoring: {metric: rmse}\n", "rmse is not of task: classification"),
        ("task: regression\nmonitoring: {metric: f1}\n", "f1 is not of task: regression; give rmse, mae or r2"),
        ("monitoring: {metric_class: 1}\n", "metric_class: 1 says nothing"),
        ("monitoring: {metric: accuracy, metric_class: 1}\n", "metric_class: 1 says nothing"),
        ("labels: [x, y]\nmonitoring: {metric: recall, metric_class: 2}\n", "2 is no class: the recipe names 2"),
        ("monitoring: {metric: f2}\n", "'f2' is not allowed"),
        ("monitoring: {label_horizon: -1}\n", "-1 is not allowed"),
    ],
)
def test_a_metric_that_does_not_fit_is_refused(more: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        parse_recipe(HEAD + more)


def test_what_decides_damage_does_not_make_another_release() -> None:
    plain = parse_recipe(HEAD).identity()
    chosen = parse_recipe(f"{HEAD}monitoring: {{metric: recall, metric_class: 1, estimate: false, label_horizon: 3}}\n")
    assert chosen.identity() == plain
    assert (chosen.monitoring.metric, chosen.monitoring.metric_class) == ("recall", 1)
    assert parse_recipe(f"{HEAD}task: regression\nmonitoring: {{metric: mae}}\n").monitoring.metric == "mae"
