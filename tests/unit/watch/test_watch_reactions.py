"""The watch's memory is the ledger: windows of one version, reactions begun once, taken up again after a kill."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from trimtab import watch as module
from trimtab.errors import Conflict
from trimtab.journal.rows import Row
from trimtab.journal.wal import Journal
from trimtab.monitoring.policy import Decision
from trimtab.settings import Settings
from trimtab.watch import Watch

RECIPE = """
name: demo
model: net:build
data: net:split
monitoring: {window: {rows: 30, min_labels: 10, label_wait_s: 1000}}
"""


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    monkeypatch.setattr(module, "current_champion", lambda uri, name: 1)
    return Watch(tmp_path / "recipe.yaml", Settings(home=tmp_path / "home", mlflow_tracking_uri="http://unused"))


def answer(watch: Watch, version: str, count: int, label: bool = True, start: int = 0) -> None:
    """Rows of one version, labelled, in the journal."""
    journal = Journal(watch.journal)
    try:
        for index in range(start, start + count):
            row = Row(
                request_id=f"{version}-{index}",
                row=0,
                time_ns=10**18 + index,
                version=version,
                inputs={"input": np.array([float(index)], np.float32)},
                output=[0.25, 0.75],
                predicted=1,
                confidence=0.75,
                latency_ms=0.1,
                status=200,
                error=None,
            )
            journal.append([row])
            if label:
                journal.label(row.request_id, 0, 1, 10**18 + index)
    finally:
        journal.close()


def test_a_window_waits_until_it_is_full(watch: Watch):
    assert watch.next_window().window is None
    answer(watch, "1", 29)
    found = watch.next_window()
    assert found.window is None
    assert "29 of 30" in found.state
    answer(watch, "1", 1, start=29)
    window = watch.next_window().window
    assert window is not None
    assert (window.lo, window.hi) == (0, 30)


def test_rows_of_a_replaced_version_that_cannot_fill_a_window_are_passed_over_with_a_record(watch: Watch):
    answer(watch, "1", 12)
    answer(watch, "2", 30)
    window = watch.next_window().window
    assert window is not None
    assert set(window.version) == {"2"}
    assert (window.lo, window.hi) == (12, 42)
    [entry] = watch.ledger.read("verdicts/demo")
    assert entry.entry["passed_over"].startswith("version 1 was replaced")


def test_a_full_window_without_labels_waits_for_them(watch: Watch, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module.time, "time", lambda: 1e9 + 5)
    answer(watch, "1", 30, label=False)
    found = watch.next_window()
    assert found.window is None
    assert "waiting for labels: 0 of 10" in found.state
    monkeypatch.setattr(module.time, "time", lambda: 1e9 + 2000)
    assert watch.next_window().window is not None


def test_a_reaction_is_begun_once_and_found_again_after_a_kill(watch: Watch):
    decision = Decision("retrain", "damage", "abc")
    watch.begin(decision, "run-1")
    watch.begin(decision, "run-2")
    assert len(watch.ledger.read("reactions/demo")) == 1
    assert watch.unfinished("abc") == decision
    assert watch.owed() == "abc"
    watch.finish(decision, "run-2", "version 2 serves")
    assert watch.unfinished("abc") is None
    assert watch.owed() is None


def test_an_alert_whose_event_was_lost_is_still_owed_until_the_ledger_has_it(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
):
    decision = Decision("alert", "input.mean drifted without measured damage", "abc")
    monkeypatch.setattr(watch, "decide", lambda: decision)
    monkeypatch.setattr(watch, "verdicts", lambda: [SimpleNamespace(kind="drift")])
    watch.ledger.record("alerts/demo", {"subject": "another", "body": "verdict xyz"}, expect_seq=None)

    assert watch.unsaid() == (decision, "drift")

    watch.ledger.record("alerts/demo", {"subject": "drift: …", "body": "verdict abc"}, expect_seq=None)
    assert watch.unsaid() is None
    monkeypatch.setattr(watch, "decide", lambda: Decision("retrain", "damage", "def"))
    assert watch.unsaid() is None


def test_while_a_reaction_runs_nothing_is_owed_and_a_second_one_is_told(watch: Watch):
    watch.begin(Decision("retrain", "damage", "abc"), "run-1")
    with watch.reacting():
        assert watch.owed() is None
        with pytest.raises(Conflict, match="reaction"), watch.reacting():
            pass
    assert watch.owed() == "abc"


def judged(watch: Watch, digests: list[str]) -> None:
    """Verdicts on windows of ten rows, one after the other, in the ledger."""
    for index, digest in enumerate(digests):
        entry = {"verdict": {}, "digest": digest, "lo": 10 * index, "hi": 10 * index + 10}
        watch.ledger.record("verdicts/demo", entry, expect_seq=None)


def test_rows_of_windows_to_come_of_the_newest_verdict_and_of_unfinished_reactions_are_needed(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
):
    assert watch.needed_from() == 0
    digests = ["a", "b", "c", "d"]
    judged(watch, digests)
    past = [SimpleNamespace(digest=digest, lo=10 * index) for index, digest in enumerate(digests)]
    monkeypatch.setattr(watch, "verdicts", lambda: past)
    assert watch.needed_from() == 30  # the newest may still get a reaction

    watch.begin(Decision("retrain", "damage", "b"), "run-1")
    assert watch.needed_from() == 10
    watch.finish(Decision("retrain", "damage", "b"), "run-1", "version 2 serves")
    assert watch.needed_from() == 30

    watch.begin(Decision("retrain", "damage", "d"), "run-2")
    watch.finish(Decision("retrain", "damage", "d"), "run-2", "BudgetNotMet")
    assert watch.needed_from() == 40  # only what was not judged yet
