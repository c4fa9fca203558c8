"""Which release is meant, and which version that is now."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import RegistryError
from trimtab.registry import reference
from trimtab.registry.reference import Reference, resolve


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("digits", Reference("digits", "champion")),
        ("digits@challenger", Reference("digits", "challenger")),
        ("digits/3", Reference("digits", None, 3)),
        ("models:/digits@champion", Reference("digits", "champion")),
        ("models:/my.model_2-x/12", Reference("my.model_2-x", None, 12)),
    ],
)
def test_what_people_and_mlflow_write_is_read(text: str, meant: Reference) -> None:
    assert Reference.parse(text) == meant
    assert Reference.parse(str(meant)) == meant


@pytest.mark.parametrize(
    "text",
    [
        "", "models:/", "runs:/abc/model", "s3://bucket/x", "models:/digits/Production", "models:/digits/latest",
        "digits/0", "digits/-1", "digits/٣", "digits@", "digits@a b", "digits@a/b", "../digits", "a/b/3",
        "digits@champion@x", "models:/m-0123/extra/x",
    ],
)  # fmt: skip
def test_what_is_no_release_is_refused(text: str) -> None:
    with pytest.raises(RegistryError):
        Reference.parse(text)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        meant = Reference.parse(text)
    except RegistryError:
        return
    assert (meant.alias is None) != (meant.version is None)
    assert Reference.parse(str(meant)) == meant


def test_an_alias_is_asked_for_and_a_number_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def version_under(uri: str, name: str, alias: str) -> int | None:
        asked.append((name, alias))
        return {"champion": 4}.get(alias)

    monkeypatch.setattr(reference, "version_under", version_under)

    assert resolve("http://mlflow", Reference("digits")) == 4
    assert resolve("http://mlflow", Reference("digits", None, 2)) == 2
    with pytest.raises(RegistryError, match="'challenger'"):
        resolve("http://mlflow", Reference("digits", "challenger"))
    assert asked == [("digits", "champion"), ("digits", "challenger")]
