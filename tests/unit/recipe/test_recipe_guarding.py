"""`serving`: auth, TLS and the journal; the older key means what it meant; a release does not change by where it is."""

from __future__ import annotations

import pytest

from trimtab.errors import RecipeError
from trimtab.recipe.guarding import released
from trimtab.recipe.load import parse_recipe
from trimtab.recipe.schema import Recipe

HEAD = "name: demo\nmodel: net:build\ndata: net:split\nserving: "
TLS = "{tls: {certificate: a.pem, key: b.pem}}"


def recipe(serving: str) -> Recipe:
    return parse_recipe(HEAD + serving)


@pytest.mark.parametrize(("old", "new"), [("true", "full"), ("false", "none")])
def test_the_older_key_says_the_same_in_other_words(old: str, new: str) -> None:
    by_old, by_new = recipe(f"{{journal_inputs: {old}}}"), recipe(f"{{journal: {{inputs: {new}}}}}")
    assert by_old.serving.journal == by_new.serving.journal
    assert by_old.identity() == by_new.identity()
    assert recipe(f"{{journal_inputs: {old}, journal: {{redact: [x]}}}}").serving.journal.inputs == new


@pytest.mark.parametrize(
    ("serving", "said"),
    [
        ("{journal_inputs: true, journal: {inputs: none}}", "older name of journal.inputs"),
        ("{journal_inputs: maybe}", "'maybe' is not allowed"),
        ("{journal: {inputs: some}}", "'some' is not allowed"),
        ("{journal: {sample: 0}}", "0 is not allowed"),
        ("{journal: {retention_days: 0}}", "0 is not allowed"),
        ("{journal: {redact: [a], hash: [a]}}", "both redact and hash"),
        ("{journal: {redacted: [a]}}", "did you mean redact?"),
        ("{auth: true, backend: mlflow}", "backend: mlflow has neither auth nor tls"),
        (TLS[:-1] + ", backend: mlflow}", "backend: mlflow has neither auth nor tls"),
        ("{tls: {certificate: a.pem}}", "tls.key: required key is missing"),
    ],
)
def test_what_cannot_be_meant_is_refused(serving: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(serving)
    assert said in str(caught.value)


def test_what_is_released_at_the_defaults_is_what_it_was_before_there_were_such_keys() -> None:
    assert released(recipe("{}").serving) == {
        "backend": "trimtab", "threads": 1, "max_queue": 64, "max_body_mb": 16, "journal_inputs": True,
    }  # fmt: skip


@pytest.mark.parametrize("place", ["{auth: true}", TLS, "{journal: {retention_days: 30}}"])
def test_where_a_release_is_served_and_how_long_rows_are_kept_is_no_part_of_it(place: str) -> None:
    assert recipe(place).identity() == recipe("{}").identity()
    assert released(recipe(place).serving) == released(recipe("{}").serving)


@pytest.mark.parametrize("kept", ["{journal: {inputs: sample}}", "{journal: {redact: [a]}}", "{max_elements: 5}"])
def test_what_is_kept_and_taken_is_a_part_of_a_release(kept: str) -> None:
    assert recipe(kept).identity() != recipe("{}").identity()
    assert "retention_days" not in str(released(recipe(kept).serving))
