"""Reads a recipe file; every error names the key, the value and what is allowed."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from trimtab.errors import RecipeError
from trimtab.recipe.schema import Recipe

MAX_RECIPE_BYTES = 1 << 20


def load_recipe(path: Path | str) -> Recipe:
    """Read and validate a recipe as a whole.

    Raises:
        RecipeError: missing or unreadable file, not YAML, unknown key, wrong type or value, missing weights file.
    """
    path = Path(path)
    recipe = parse_recipe(_read(path), where=str(path))
    _check_weights(recipe, path)
    return recipe


def parse_recipe(text: str, where: str = "recipe") -> Recipe:
    """Validate the text of a recipe.

    Raises:
        RecipeError: not YAML, or not a valid recipe; all errors at once, one a line.
    """
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(
            f"not valid YAML: {error}", where=where, fix="see `trimtab init` for a commented recipe"
        ) from None
    if not isinstance(value, dict):
        raise RecipeError(
            f"a recipe is a mapping of keys, this is {type(value).__name__}",
            where=where,
            fix="start from `trimtab init`",
        )
    try:
        return Recipe.model_validate(value)
    except ValidationError as error:
        lines = [_line(detail) for detail in error.errors()]
        raise RecipeError("\n  ".join(["not valid:", *lines]), where=where, fix="correct the keys above") from None


def _read(path: Path) -> str:
    if path.is_dir():
        raise RecipeError("is a folder, not a recipe file", where=str(path), fix="name the .yaml file")
    try:
        if path.stat().st_size > MAX_RECIPE_BYTES:
            raise RecipeError("is larger than 1 MiB", where=str(path), fix="name a recipe, not a data file")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError("no such file", where=str(path), fix="write one with `trimtab init`") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot be read: {error}", where=str(path)) from None


def _check_weights(recipe: Recipe, path: Path) -> None:
    if recipe.model.weights is None:
        return
    weights = (path.parent / recipe.model.weights).resolve()
    if not weights.is_file():
        raise RecipeError(
            f"no such file: {recipe.model.weights}",
            where=f"{path}: model.weights",
            fix=f"paths are relative to the recipe; looked at {weights}",
        )


def _line(detail: ErrorDetails) -> str:
    key = ".".join(str(part) for part in detail["loc"]) or "(recipe)"
    if detail["type"] == "extra_forbidden":
        return f"{key}: unknown key{_suggest(detail['loc'])}"
    if detail["type"] == "missing":
        return f"{key}: required key is missing"
    given = repr(detail["input"])
    shown = given if len(given) <= 80 else given[:77] + "..."
    return f"{key}: {shown} is not allowed: {detail['msg']}"


def _suggest(location: tuple[int | str, ...]) -> str:
    section: Any = Recipe
    for part in location[:-1]:
        if not (isinstance(section, type) and issubclass(section, BaseModel) and part in section.model_fields):
            return ""
        section = _section_of(section.model_fields[str(part)].annotation)
    if not (isinstance(section, type) and issubclass(section, BaseModel)):
        return ""
    names = list(section.model_fields)
    close = difflib.get_close_matches(str(location[-1]), names, n=1)
    return f" (did you mean {close[0]}?)" if close else f" (allowed: {', '.join(names)})"


def _section_of(annotation: Any) -> Any:
    """`Prune | None` → `Prune`."""
    for option in getattr(annotation, "__args__", ()):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return annotation
