"""`trimtab score`: which release is meant, and what it is asked to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deployments.cli import main as cli
from deployments.cli.score import reference, text_of
from trimtab.errors import RecipeError, RegistryError

RECIPE = "name: churn\nmodel: churn:build\ndata: churn:split\n"


@pytest.mark.parametrize(
    ("release", "version", "alias", "meant"),
    [
        ("digits", None, None, "digits@champion"),
        ("digits", 3, None, "digits/3"),
        ("digits", None, "challenger", "digits@challenger"),
        ("digits/2", None, None, "digits/2"),
        ("models:/digits@previous", None, None, "digits@previous"),
    ],
)
def test_a_release_is_named_once(release: str, version: int | None, alias: str | None, meant: str) -> None:
    assert reference(release, version, alias) == meant


def test_a_recipe_stands_for_its_name(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)

    assert reference(str(path), None, None) == "churn@champion"
    assert reference(str(path), 2, None) == "churn/2"


@pytest.mark.parametrize(
    ("release", "version", "alias"), [("digits/2", 3, None), ("digits@x", None, "y"), ("digits", 2, "y")]
)
def test_a_version_that_is_said_twice_is_refused(release: str, version: int | None, alias: str | None) -> None:
    with pytest.raises(RecipeError, match="more than once"):
        reference(release, version, alias)


def test_a_recipe_that_does_not_exist_is_told() -> None:
    with pytest.raises(RecipeError):
        reference("absent.yaml", None, None)
    with pytest.raises(RegistryError):
        reference("digits", None, "a b")


def test_without_servers_it_says_how_to_start_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRIMTAB_MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("deployments.cli.output.apply", lambda settings: None)
    arguments = [
        "score",
        "digits",
        "--input",
        "in.parquet",
        "--output",
        "out.parquet",
        "--home",
        str(tmp_path),
        "--json",
    ]
    result = CliRunner().invoke(cli.app, arguments)

    assert result.exit_code == 7
    assert json.loads(result.stdout)["error"] == "StateError"


@pytest.mark.parametrize(
    "wrong", [("--on-error", "skip"), ("--batch-rows", "0"), ("--output", "scores.csv"), ("--key", "id", "--key", "id")]
)
def test_what_cannot_be_meant_is_refused_before_anything_is_asked(tmp_path: Path, wrong: tuple[str, ...]) -> None:
    options = ["--input", "in.parquet", "--output", "out.parquet", *wrong, "--home", str(tmp_path), "--json"]
    result = CliRunner().invoke(cli.app, ["score", "digits", *options])

    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"] == "RecipeError"


def test_what_was_made_is_said_with_an_example_of_what_was_not() -> None:
    found: dict[str, Any] = {
        "output": "/data/[x].parquet", "rows": 10, "name": "digits", "version": 3, "resumed": 4, "bad": 1,
        "examples": ["in.parquet, row group 0, row 2: input[1]: is null"],
    }  # fmt: skip

    said = text_of(found)

    assert "10 rows by digits version 3, 4 of them by an earlier run" in said
    assert "1 rows have no answer, e.g. in.parquet, row group 0, row 2" in said
    assert "\\[x]" in said
