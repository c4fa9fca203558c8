"""`trimtab tokens`, as a person and as a script calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments.cli import main as cli
from trimtab.serving.tokens import TokenFile, Tokens
from trimtab.settings import Settings


@pytest.fixture(autouse=True)
def _unchanged_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.cli.output.apply", lambda settings: None)


def called(home: Path, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, ["tokens", *arguments, "--home", str(home)])
    return result.exit_code, result.stdout


def test_a_token_is_shown_once_listed_without_it_and_revoked(tmp_path: Path) -> None:
    code, text = called(tmp_path, "add", "--name", "shop [1]", "--scope", "labels", "--scope", "score", "--json")
    made = json.loads(text)
    assert (code, made["scopes"]) == (0, ["score", "labels"])
    assert Tokens(TokenFile.of(Settings(home=tmp_path))).find(made["token"]) is not None
    for form in ((), ("--json",)):
        listed = called(tmp_path, "list", *form)[1]
        assert made["id"] in listed
        assert "shop [1]" in listed
        assert made["token"] not in listed
        assert "sha256" not in listed
    assert called(tmp_path, "revoke", made["id"])[0] == 0
    assert json.loads(called(tmp_path, "list", "--json")[1]) == {"tokens": []}
    assert called(tmp_path, "revoke", made["id"])[0] == 7


def test_a_token_scores_unless_something_else_is_said(tmp_path: Path) -> None:
    text = called(tmp_path, "add", "--name", "shop")[1]
    assert text.startswith("tt_")
    assert TokenFile.of(Settings(home=tmp_path)).read()[0].scopes == ("score",)
    assert called(tmp_path, "add", "--name", "shop", "--scope", "root")[0] == 7
