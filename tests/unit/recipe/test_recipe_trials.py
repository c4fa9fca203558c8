"""Canary, shadow and promotion in a recipe: off by default, refused where they could have no effect."""

from __future__ import annotations

import pytest

from trimtab.errors import RecipeError
from trimtab.recipe.load import parse_recipe

MINIMAL = "name: demo\nmodel: net:build\ndata: net:split\n"


def test_everything_is_off_by_default() -> None:
    serving = parse_recipe(MINIMAL).serving
    assert (serving.canary, serving.shadow, serving.promotion) == (None, None, None)


def test_a_section_has_defaults_of_its_own() -> None:
    text = MINIMAL + "serving: {canary: {percent: 5}, shadow: {}, promotion: {min_agreement: 0.95}}"
    serving = parse_recipe(text).serving
    assert serving.canary is not None
    assert serving.canary.header
    assert serving.shadow is not None
    assert serving.shadow.percent == 100
    assert serving.promotion is not None
    assert (serving.promotion.min_requests, serving.promotion.max_error_rate) == (200, 0.01)


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("{canary: {percent: 0, header: false}}", "routes nothing"),
        ("{canary: {percent: 101}}", "101 is not allowed"),
        ("{shadow: {percent: 0}}", "0 is not allowed"),
        ("{shadow: {percents: 5}}", "did you mean percent?"),
        ("{promotion: {}}", "nothing to go by: set shadow or canary"),
        ("{canary: {percent: 5}, promotion: {min_agreement: 0.9}}", "measured on shadow copies: set shadow"),
        ("{canary: {percent: 5}, promotion: {max_latency_ratio: 1.2}}", "measured on shadow copies: set shadow"),
        ("{backend: mlflow, canary: {percent: 5}}", "the stock server has no challenger"),
        ("{backend: mlflow, shadow: {}}", "the stock server has no challenger"),
        ("{shadow: {tolerance: 0.2}}", "of task: regression"),
        ("{drain_s: 3}", "3 is not allowed"),
        ("{drain_s: 61}", "61 is not allowed"),
    ],
)
def test_what_could_have_no_effect_is_refused(section: str, told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(f"{MINIMAL}serving: {section}")
    assert told in str(caught.value)


def test_a_tolerance_is_for_regressions() -> None:
    text = f"{MINIMAL}task: regression\nserving: {{shadow: {{tolerance: 0.2}}}}"
    shadow = parse_recipe(text).serving.shadow
    assert shadow is not None
    assert shadow.tolerance == 0.2


def test_a_release_from_before_there_were_these_keys_keeps_its_identity() -> None:
    plain = parse_recipe(MINIMAL).identity()
    assert plain["serving"] == {
        "backend": "trimtab", "threads": 1, "max_queue": 64, "max_body_mb": 16, "journal_inputs": True,
    }  # fmt: skip
    tried = parse_recipe(MINIMAL + "serving: {shadow: {}, drain_s: 20}").identity()["serving"]
    assert (tried["shadow"]["percent"], tried["drain_s"]) == (100, 20)
    assert "canary" not in tried
    everything = "serving: {shadow: {}, canary: {percent: 1}, promotion: {}, drain_s: 20}"
    assert set(parse_recipe(MINIMAL + everything).identity()["serving"]) >= {
        "backend",
        "threads",
        "canary",
        "promotion",
    }
