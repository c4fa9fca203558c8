"""`trimtab verdict`, as a person and as a script calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments.cli import main as cli
from deployments.cli import verdict as command
from trimtab.candidate import Interval
from trimtab.ledger import Ledger
from trimtab.monitoring.metrics import Figure
from trimtab.monitoring.performance import Performance
from trimtab.monitoring.verdict import Verdict
from trimtab.recompute import Recomputed

ACCURACY = Interval(0.9, 0.85, 0.94, 200)
UNDEFINED = Figure("recall", "class 1", None, "no positives among 9 labels")
VERDICT = Verdict(
    kind="healthy",
    lo=0,
    hi=200,
    version="3",
    rows=200,
    columns=(),
    performance=Performance("ok", ACCURACY, ACCURACY, 0.85, 200, 200, 0),
    errors=0,
    other_versions=0,
    duplicates=0,
    unknown_labels=0,
    reasons=("no drift in [3] columns",),
    figures=(Figure("f1", "macro", ACCURACY, "", 0.91), UNDEFINED),
    revision=1,
    replaces="a" * 64,
    replaced_kind="healthy",
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.delenv("TRIMTAB_MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("deployments.cli.output.apply", lambda settings: None)
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.record("verdicts/digits", {"verdict": VERDICT.to_json(), "digest": VERDICT.digest, "lo": 0, "hi": 200}, None)
    return ("--home", str(tmp_path))


def called(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, ["verdict", "digits", *arguments])
    return result.exit_code, result.stdout


def test_a_verdict_is_shown_with_its_figures(home: tuple[str, str]) -> None:
    code, said = called("1", *home)
    assert code == 0
    for words in (
        "entry 1",
        "healthy, revision 1",
        "no drift in [3] columns",
        "F1 (macro)",
        "undefined",
        "no positives",
    ):
        assert words in said
    assert json.loads(called("1", "--json", *home)[1])["verdict"]["digest"] == VERDICT.digest


@pytest.mark.parametrize(("reasons", "code"), [(["no drift in [3] columns"], 0), (["something else"], 7)])
def test_whether_it_comes_out_the_same_is_said_and_is_the_exit_code(
    home: tuple[str, str], monkeypatch: pytest.MonkeyPatch, reasons: list[str], code: int
) -> None:
    both = Recomputed(VERDICT.to_json(), {**VERDICT.to_json(), "reasons": reasons})
    monkeypatch.setattr("trimtab.recompute.recompute", lambda *arguments: both)
    ended, said = called("1", "--recompute", "--json", *home)
    assert ended == code
    assert json.loads(said)["same"] == (code == 0)
    assert json.loads(said)["differs"] == ([] if code == 0 else ["reasons"])
    assert called("1", "--recompute", *home)[0] == code


def test_an_entry_that_is_not_there_is_an_error_with_those_there_are(home: tuple[str, str]) -> None:
    code, said = called("9", "--json", *home)
    assert code == 7
    assert json.loads(said)["fix"] == "there are: entries 1 to 1"
    assert "Example: trimtab verdict" in (command.verdict.__doc__ or "")
