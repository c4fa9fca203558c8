"""`trimtab keys` and `trimtab history`, as a person and as a script calls them."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments.cli import history, keys
from deployments.cli import main as cli
from trimtab.ledger import Ledger


@pytest.fixture(autouse=True)
def _without_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No address from outside, and no environment changed for the tests after these."""
    monkeypatch.delenv("TRIMTAB_MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("deployments.cli.output.apply", lambda settings: None)


def called(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, list(arguments))
    return result.exit_code, result.stdout


def test_keys_are_listed_rotated_and_revoked(tmp_path: Path) -> None:
    home = ("--home", str(tmp_path), "--json")
    assert json.loads(called("keys", "list", *home)[1]) == {"keys": []}
    first = json.loads(called("keys", "rotate", *home)[1])["signs"]
    code, said = called("keys", "revoke", first[:8], *home)
    assert (code, json.loads(said)["error"]) == (9, "RegistryError")
    called("keys", "rotate", *home)
    assert json.loads(called("keys", "revoke", first[:8], *home)[1]) == {"revoked": first}
    states = [key["state"] for key in json.loads(called("keys", "list", *home)[1])["keys"]]
    assert states == ["signs", "revoked"]
    assert "PRIVATE" not in called("keys", "list", *home)[1]


@pytest.fixture
def promoted(tmp_path: Path) -> Path:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    intent = {"act": "promoting", "kind": "promote", "version": 1, "from": None, "who": "ann", "why": "first [bold]"}
    seq = ledger.record("promotions/digits", intent, None)
    ledger.record("promotions/digits", {"act": "promoted", "intent": seq}, None)
    return tmp_path


def test_history_is_a_table_json_and_csv(promoted: Path) -> None:
    home = ("--home", str(promoted))
    code, table = called("history", "digits", *home)
    assert (code, "ann" in table, "[bold]" in table) == (0, True, True)
    value = json.loads(called("history", "digits", "--json", *home)[1])
    assert (value["history"][0]["to"], value["tampering"]) == (1, [])
    assert called("history", "digits", "--csv", *home)[1].splitlines()[1].split(",")[1] == "ann"


def test_history_says_with_its_exit_code_that_the_ledger_was_changed(promoted: Path) -> None:
    with sqlite3.connect(promoted / "ledger.db") as connection:
        connection.execute("update trimtab_ledger set entry = replace(entry, 'ann', 'eve')")
    code, said = called("history", "digits", "--json", "--home", str(promoted))
    assert code == 7
    assert "was changed" in json.loads(said)["tampering"][0]


def test_every_command_says_what_it_does() -> None:
    for function in (keys.show, keys.rotate, keys.revoke, keys.trust, keys.sign, history.history):
        assert "Example: trimtab" in (function.__doc__ or "")


def test_a_challenge_names_a_version_or_its_end_and_not_both(tmp_path: Path) -> None:
    for arguments in (("challenge", "digits"), ("challenge", "digits", "3", "--clear")):
        code, said = called(*arguments, "--home", str(tmp_path), "--json")
        assert (code, json.loads(said)["error"]) == (2, "RecipeError")


def test_status_says_what_is_tried(promoted: Path) -> None:
    ledger = Ledger(f"sqlite:///{promoted / 'ledger.db'}")
    intent = {"act": "challenging", "version": 2, "from": None, "who": "ann", "why": "try"}
    seq = ledger.record("challenges/digits", intent, None)
    ledger.record("challenges/digits", {"act": "challenged", "intent": seq}, None)
    home = ("--home", str(promoted))
    assert json.loads(called("status", "digits", "--json", *home)[1])["releases"]["digits"]["challenger"] == 2
    assert "challenger 2" in called("status", "digits", *home)[1]


def test_force_is_of_production_and_refused_elsewhere(promoted: Path) -> None:
    code, said = called(
        "promote", "digits", "1", "--why", "x", "--to", "staging", "--force", "--json", "--home", str(promoted)
    )
    assert code == 2
    assert json.loads(said)["where"] == "--force"
