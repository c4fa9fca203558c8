"""The page on the recipe names every key there is, and none that there is not."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trimtab.recipe.schema import Recipe
from trimtab.recipe.section import Section

PAGE = Path(__file__).parents[3] / "docs" / "recipe.md"


def sections_in(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from sections_in(argument)


def keys(section: type[Section], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield prefix + name
        for inner in sections_in(field.annotation):
            yield from keys(inner, f"{prefix}{name}.")


def test_every_key_of_the_recipe_is_in_the_table_and_no_other() -> None:
    table = re.findall(r"^\| `([a-z_0-9.]+)` \|", PAGE.read_text(), re.M)

    assert sorted(table) == sorted(set(keys(Recipe)))
