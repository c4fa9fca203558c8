"""Release names: what MLflow would mangle is refused before anything is registered."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import RecipeError, RegistryError
from trimtab.recipe.load import parse_recipe
from trimtab.registry.names import release_name

MINIMAL = "name: demo\nmodel: net:build\ndata: net:split\n"


@pytest.mark.parametrize("name", ["digits", "m-1", "a.b_c-D9", "x" * 100])
def test_plain_names_pass_unchanged(name: str) -> None:
    assert release_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", "a/b", "m%6fdel-1", "%asd", "a:b", "a ", " a", "a\n", "x" * 101, "x" * 257, "-a", ".a", "modèle", "a'b"),
        *("a\x00", "..", "a..b", "a/../b", "a\\b", "a\u200bb", "a\u202eb", "ａ", "a＿b", "😀", "a\tb"),
    ],
)
def test_names_that_mlflow_would_mangle_are_refused_with_what_is_allowed(name: str) -> None:
    with pytest.raises(RegistryError) as caught:
        release_name(name)
    assert "A-Z" in caught.value.fix


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("diɡits", "LATIN SMALL LETTER SCRIPT G"),
        ("dіgits", "CYRILLIC SMALL LETTER BYELORUSSIAN-UKRAINIAN I"),
        ("digits\u2024v2", "ONE DOT LEADER"),
        ("a‐b", "HYPHEN"),
        ("a\u200bb", "ZERO WIDTH SPACE"),
    ],
)
def test_a_character_that_looks_like_an_allowed_one_is_named(name: str, said: str) -> None:
    with pytest.raises(RegistryError, match=said):
        release_name(name)
    with pytest.raises(RecipeError, match=said):
        parse_recipe(MINIMAL.replace("demo", f'"{name}"'))


@given(name=st.text(st.sampled_from("ab9._-/:%é \n\u0430.."), max_size=8))
def test_the_recipe_takes_a_name_if_and_only_if_the_registry_does(name: str) -> None:
    try:
        expected = release_name(name)
    except RegistryError:
        with pytest.raises(RecipeError):
            parse_recipe(json.dumps({"name": name, "model": "net:build", "data": "net:split"}))
    else:
        assert parse_recipe(json.dumps({"name": name, "model": "net:build", "data": "net:split"})).name == expected


def test_both_spellings_of_an_accent_get_the_same_answer() -> None:
    messages = []
    for form in ("NFC", "NFD"):
        with pytest.raises(RegistryError) as caught:
            release_name(unicodedata.normalize(form, "é"))
        messages.append(caught.value.what.split("has", 1)[1])
    assert messages[0] == messages[1]
