"""An alert is in the ledger once it was shown, and then is not shown again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from policy_world import verdict
from prefect.logging import disable_run_logger

from tasks import alert
from trimtab.ledger import Entry, Ledger
from trimtab.monitoring.policy import about
from trimtab.settings import Settings


def test_an_alert_that_could_not_be_shown_is_tried_again_and_one_that_was_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: list[Any]
) -> None:
    settings = Settings(home=tmp_path)
    shown: list[Any] = []

    def artifact(**facts: Any) -> None:
        shown.append(facts)
        if len(shown) == 1:
            raise ConnectionError("Prefect does not answer")

    monkeypatch.setattr(alert, "create_markdown_artifact", artifact)

    def write() -> None:
        with disable_run_logger():
            alert.write_alert.fn(settings, "digits", "drift: …", about("abc"))

    with pytest.raises(ConnectionError):
        write()
    assert Ledger(settings.ledger).read("alerts/digits") == []
    write()
    write()
    assert len(Ledger(settings.ledger).read("alerts/digits")) == 1
    assert len(shown) == 2
    assert (tmp_path / "alerts.log").read_text().count(about("abc")) == 2  # once for each try
    assert len(sent) == 1  # the event comes after what can fail, and before the ledger


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Events that are emitted."""
    events: list[Any] = []
    monkeypatch.setattr(alert, "emit_event", lambda **facts: events.append(facts))
    return events


def entry(at: datetime, **fields: str) -> Entry:
    return Entry(1, at.isoformat(), {"subject": "s", "body": "b", "cause": "", "episode": "", **fields}, "")


NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({"episode": "e", "cause": "drift"}, {"episode": "e", "subject": "another window"}, True),
        ({"episode": "e"}, {"episode": "f"}, False),
        ({"body": about("abc")}, {"body": about("abc")}, True),
        ({"body": about("abc")}, {"body": about("def")}, False),
        ({"cause": "monitor Crashed"}, {"cause": "monitor Crashed", "body": "another run"}, True),
        ({"cause": "monitor Crashed"}, {"cause": "release Failed"}, False),
        ({}, {}, False),
    ],
)
def test_of_one_cause_there_is_one_alert(before: dict[str, str], now: dict[str, str], said: bool) -> None:
    past = [entry(NOW - timedelta(minutes=30), **before)]

    assert alert.said_before(past, entry(NOW, **now).entry, NOW) is said


def test_what_still_fails_after_an_hour_is_said_again() -> None:
    past = [entry(NOW - timedelta(minutes=61), cause="monitor Crashed")]

    assert not alert.said_before(past, entry(NOW, cause="monitor Crashed").entry, NOW)


def test_an_alert_of_a_verdict_comes_with_its_evidence(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, scoring={"digits": "http://127.0.0.1:8080"})
    ledger, found = Ledger(settings.ledger), replace(verdict("drift"), reasons=tuple(f"reason {n}" for n in range(20)))
    ledger.record("verdicts/digits", {"verdict": found.to_json(), "digest": found.digest, "lo": 0, "hi": 200}, None)

    said = alert.evidence(settings, ledger, "digits", about(found.digest))

    assert "drift: rows 0–200, version 3" in said
    assert "- reason 11" in said
    assert "and 8 more" in said
    assert "http://127.0.0.1:8080/reports/digits/window-0-200.html" in said
    assert said.endswith(about(found.digest))
    assert alert.evidence(settings, ledger, "digits", "a run failed") == "a run failed"
