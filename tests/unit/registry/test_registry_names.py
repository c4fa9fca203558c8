"""Release names: what MLflow would mangle is refused before anything is registered."""

from __future__ import annotations

import unicodedata

import pytest

from trimtab.errors import RegistryError
from trimtab.registry.names import release_name


@pytest.mark.parametrize("name", ["digits", "m-1", "a.b_c-D9", "x" * 100])
def test_plain_names_pass_unchanged(name: str) -> None:
    assert release_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "a/b", "m%6fdel-1", "%asd", "a:b", "a ", " a", "a\n", "x" * 101, "-a", ".a", "modèle", "a'b", "a\x00"],
)
def test_names_that_mlflow_would_mangle_are_refused_with_what_is_allowed(name: str) -> None:
    with pytest.raises(RegistryError) as caught:
        release_name(name)
    assert "A-Z" in caught.value.fix


def test_both_spellings_of_an_accent_get_the_same_answer() -> None:
    messages = []
    for form in ("NFC", "NFD"):
        with pytest.raises(RegistryError) as caught:
            release_name(unicodedata.normalize(form, "é"))
        messages.append(caught.value.what.split("has", 1)[1])
    assert messages[0] == messages[1]
