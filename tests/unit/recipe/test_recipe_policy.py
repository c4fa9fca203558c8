"""The acting half of `monitoring`: what fits together, secrets that must not stand in a recipe, zones that exist."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from trimtab.recipe.schema import Monitoring, Recipe

BASE = {"name": "demo", "model": "net:build", "data": "net:split"}


def test_the_cool_down_is_taken_from_where_it_was_before_there_was_a_policy() -> None:
    assert Monitoring.model_validate({"cooldown_s": 7}).policy.cooldown_s == 7
    both = {"cooldown_s": 7, "policy": {"k": 1, "n": 1}}
    assert Monitoring.model_validate(both).policy.k == 1
    with pytest.raises(ValidationError, match="the same"):
        Monitoring.model_validate({"cooldown_s": 7, "policy": {"cooldown_s": 8}})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"policy": {"k": 3, "n": 2}}, "can never be"),
        ({"policy": {"breaker": {"failures": 0}}}, "greater than or equal to 1"),
        ({"retraining": {"weight": 0}}, "greater than 0"),
        ({"retraining": {"weight": 1001}}, "less than or equal to 1000"),
        ({"retraining": {"weight": float("inf")}}, "finite"),
        ({"retraining": {"windows": 0}}, "greater than or equal to 1"),
        ({"retraining": {"windows": 101}}, "less than or equal to 100"),
        ({"retraining": {"warm_start": "perhaps"}}, "valid boolean"),
        ({"policy": {"proposal_expires_days": 0}}, "greater than 0"),
        ({"policy": {"proposal_expires_days": 366}}, "less than or equal to 365"),
        ({"mode": "maybe"}, "'act', 'propose' or 'observe'"),
        ({"schedule": {"cron": "5 4 * * *", "timezone": "Mars/Olympus"}}, "no time zone"),
        ({"schedule": {"cron": "5 4 *"}}, "five fields"),
        ({"sweep": {"interval_s": 60, "cron": "5 4 * * *"}}, "exactly one"),
        ({"alerts": {"email": {"server": "SMTP", "sender": "a@b.org", "to": []}}}, "at least 1"),
        ({"alerts": {"email": {"server": "SMTP", "sender": "a b", "to": ["c@d.org"]}}}, "sender"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Monitoring.model_validate(given)


def test_an_address_in_place_of_a_variables_name_is_refused() -> None:
    with pytest.raises(ValidationError, match="environment variable"):
        Monitoring.model_validate({"alerts": {"slack": "https://hooks.slack.example/T0/B0/secret"}})


def test_what_follows_from_a_verdict_is_no_part_of_a_releases_identity() -> None:
    plain = Recipe.model_validate(BASE)
    acting = Recipe.model_validate({**BASE, "monitoring": {"policy": {"k": 1}, "mode": "propose"}})
    other = Recipe.model_validate({**BASE, "monitoring": {"holdout": 0.5}})

    assert acting.identity() == plain.identity()
    assert other.identity() != plain.identity()


def test_keys_of_drift_count_once_they_are_set_and_how_a_window_is_shown_never() -> None:
    plain = Recipe.model_validate(BASE)
    shown = Recipe.model_validate({**BASE, "monitoring": {"report": "always"}})
    assert shown.identity() == plain.identity()
    assert not {"drift", "descriptors", "retraining"} & plain.identity()["monitoring"].keys()
    given_keys: list[dict[str, Any]] = [
        {"drift": {"numeric": "psi"}},
        {"descriptors": {"mine": "net:mine"}},
        {"retraining": {"weight": 2}},
        {"retraining": {"warm_start": False}},
    ]
    for given in given_keys:
        assert Recipe.model_validate({**BASE, "monitoring": given}).identity() != plain.identity()
