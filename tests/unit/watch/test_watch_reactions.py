"""The watch's memory is the ledger: windows of one version, reactions begun once, taken up again after a kill."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from policy_world import verdict

from trimtab import reactions
from trimtab.errors import Conflict, StateError
from trimtab.journal.rows import Row
from trimtab.journal.wal import Journal
from trimtab.monitoring.policy import DAY_S, Decision
from trimtab.recipe.retraining import Retraining
from trimtab.recompress import Recompress
from trimtab.settings import Settings
from trimtab.watch import Watch
from trimtab.watch import known as module

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
    monkeypatch.setattr(time, "time", lambda: 1e9 + 5)
    answer(watch, "1", 30, label=False)
    found = watch.next_window()
    assert found.window is None
    assert "waiting for labels: 0 of 10" in found.state
    monkeypatch.setattr(time, "time", lambda: 1e9 + 2000)
    assert watch.next_window().window is not None


def test_a_reaction_is_begun_once_and_found_again_after_a_kill(watch: Watch):
    decision = Decision("retrain", "damage", "abc", "damage", "episode")
    watch.begin(decision, "run-1")
    watch.begin(decision, "run-2")
    assert len(watch.ledger.read("reactions/demo")) == 1
    assert watch.unfinished("abc") == decision
    assert watch.owed() == "abc"
    answer(watch, "1", 3)
    watch.finish(decision, "run-2", "version 2 serves", 2)
    assert watch.unfinished("abc") is None
    assert watch.owed() is None
    [reaction] = watch.facts().reactions
    assert (reaction.version, reaction.end, reaction.episode) == ("2", 3, "episode")


def test_what_a_person_approved_is_owed_until_it_begins(watch: Watch, monkeypatch: pytest.MonkeyPatch):
    proposed = Decision("retrain", "damage", "abc", "damage", "episode", needs_approval=True)
    monkeypatch.setattr(watch, "decide", lambda digest=None: proposed)
    reactions.propose(watch.ledger, "demo", proposed, "run-1")
    assert watch.owed() is None
    reactions.approve(watch.ledger, "demo", "abc", "somebody")
    reactions.approve(watch.ledger, "demo", "abc", "somebody")
    assert len(watch.ledger.read("reactions/demo")) == 2
    assert watch.facts().approved == {"abc"}
    assert watch.facts().proposed == {"episode"}
    assert watch.owed() == "abc"
    watch.begin(proposed, "run-2")
    watch.finish(proposed, "run-2", "nothing was changed", None)
    assert watch.owed() is None


def test_a_recompression_is_about_the_first_figure_that_was_too_much_and_the_rows_the_champion_knew(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
):
    facts = {"figures": {"size_ratio": 3.5}, "verdict": "its retrain"}
    monkeypatch.setattr(watch, "release_facts", lambda version: facts)
    costly, healthy = verdict("service", breaches=("size", "memory")), verdict("healthy", 1)
    for one in (costly, healthy):
        watch.record(one)

    assert watch.recompression(costly.digest) == (Recompress(costly.digest, "memory", 3.5), "its retrain")
    with pytest.raises(StateError, match="nothing too costly"):
        watch.recompression(healthy.digest)
    with pytest.raises(StateError, match="no verdict"):
        watch.recompression("unknown")


def test_a_retrain_takes_the_rows_of_every_damaged_window_that_it_rests_on(watch: Watch):
    answer(watch, "1", 180)
    for place, kind in enumerate(("drift+damage", "healthy", "drift+damage")):
        watch.record(replace(verdict(kind, version="1"), lo=60 * place, hi=60 * place + 60))
    newest = watch.verdicts()[-1]

    rows = watch.new_rows(newest.digest)

    values = np.concatenate([part.inputs["input"] for part in (rows.train, rows.validation, rows.held_out)])
    assert sorted(values.ravel()) == [*range(60), *range(120, 180)]


def test_a_retrain_looks_as_many_windows_back_as_the_recipe_says_and_gives_their_rows_its_weight(watch: Watch):
    answer(watch, "1", 180)
    for place in range(3):
        watch.record(replace(verdict("drift+damage", version="1"), lo=60 * place, hi=60 * place + 60))
    newest = watch.verdicts()[-1].digest
    assert watch.new_rows(newest).windows == ((0, 60), (60, 120), (120, 180))
    assert watch.new_rows(newest).train.weights is None

    learning = Retraining(windows=2, weight=4)
    monitoring = watch.recipe.monitoring.model_copy(update={"retraining": learning, "label_horizon": 0})
    watch.recipe = watch.recipe.model_copy(update={"monitoring": monitoring})
    rows = watch.new_rows(newest)

    assert rows.windows == ((60, 120), (120, 180))
    assert set(rows.train.counted()) == {4.0}
    assert rows.facts(None)["weight"] == 4


def test_rows_that_a_retrain_would_look_back_to_are_kept(watch: Watch):
    policy = watch.recipe.monitoring.policy.model_copy(update={"n": 1, "k": 1})
    update = {"label_horizon": 0, "policy": policy, "retraining": Retraining(windows=4)}
    watch.recipe = watch.recipe.model_copy(update={"monitoring": watch.recipe.monitoring.model_copy(update=update)})
    shown = [verdict("damage", place, version="1") for place in range(6)]
    for one in shown:
        watch.record(one)
    assert watch.needed_from() == shown[2].lo


def test_done_before_a_kill_is_told_by_what_serves(watch: Watch, monkeypatch: pytest.MonkeyPatch):
    bad, other = verdict("damage", version="1"), verdict("damage", 1, version="2")
    for one in (bad, other):
        watch.record(one)
    monkeypatch.setattr(watch, "release_facts", lambda version: {"verdict": "abc", "recompressed": "def"})

    assert watch.done_already(Decision("rollback", "", other.digest)) == 1
    assert watch.done_already(Decision("rollback", "", bad.digest)) is None
    assert watch.done_already(Decision("retrain", "", "abc")) == 1
    assert watch.done_already(Decision("recompress", "", "abc")) is None
    assert watch.done_already(Decision("recompress", "", "def")) == 1


def test_an_alert_whose_event_was_lost_is_still_owed_until_the_ledger_has_it(watch: Watch):
    watch.record(verdict("drift", version="1"))
    watch.ledger.record("alerts/demo", {"subject": "another", "body": "", "episode": "xyz"}, expect_seq=None)

    [decision] = watch.unsaid()
    assert (decision.action, decision.cause) == ("alert", "drift")

    entry = {"subject": "drift: …", "body": "verdict abc", "episode": decision.episode}
    watch.ledger.record("alerts/demo", entry, expect_seq=None)
    assert watch.unsaid() == []
    watch.record(verdict("healthy", 1, version="1"))
    assert watch.unsaid() == []


def test_while_a_reaction_runs_nothing_is_owed_and_a_second_one_is_told(watch: Watch):
    watch.begin(Decision("retrain", "damage", "abc"), "run-1")
    with watch.reacting():
        assert watch.owed() is None
        with pytest.raises(Conflict, match="reaction"), watch.reacting():
            pass
    assert watch.owed() == "abc"


def test_two_monitors_that_judged_the_same_new_window_record_it_once(watch: Watch):
    mine, theirs = verdict("healthy", version="1"), verdict("drift", version="1")
    watch.record(theirs)
    with pytest.raises(Conflict, match="were judged meanwhile"):
        watch.record(mine)
    assert [one.digest for one in watch.verdicts()] == [theirs.digest]
    watch.record(replace(mine, replaces=theirs.digest, revision=1))
    assert len(watch.verdicts()) == 2


def test_rows_that_may_still_be_read_again_are_needed(watch: Watch, monkeypatch: pytest.MonkeyPatch):
    policy = watch.recipe.monitoring.policy.model_copy(update={"n": 2})
    monitoring = watch.recipe.monitoring.model_copy(update={"label_horizon": 0, "policy": policy})
    watch.recipe = watch.recipe.model_copy(update={"monitoring": monitoring})
    assert watch.needed_from() == 0
    shown = [verdict("damage", place, version="1") for place in range(5)]
    for one in shown:
        watch.record(one)
    assert watch.needed_from() == shown[3].lo  # a reaction may rest on the last two windows

    second = Decision("retrain", "damage", shown[1].digest)
    watch.begin(second, "run-1")
    assert watch.needed_from() == shown[1].lo
    watch.finish(second, "run-1", "version 2 serves", 2)
    assert watch.needed_from() == shown[3].lo

    reactions.propose(watch.ledger, watch.name, Decision("retrain", "damage", shown[0].digest), "run-2")
    assert watch.needed_from() == shown[0].lo
    first = Decision("retrain", "damage", shown[0].digest)
    watch.begin(first, "run-2")
    watch.finish(first, "run-2", "nothing was changed", None)
    assert watch.needed_from() == shown[3].lo

    late = Decision("retrain", "damage", shown[2].digest)
    watch.propose(late, "run-3")
    assert watch.needed_from() == shown[2].lo
    assert watch.expire() == []
    week = policy.proposal_expires_days * DAY_S
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + week)
    assert [one.decision for one in watch.expire()] == [late]
    assert watch.needed_from() == shown[3].lo  # nobody can agree any more
    assert "not approved in time" in watch.decide(late.verdict_digest).reason

    horizon = monitoring.model_copy(update={"label_horizon": 4})
    watch.recipe = watch.recipe.model_copy(update={"monitoring": horizon})
    assert watch.needed_from() == shown[1].lo  # late labels may re-open it
