"""Labels that come after the verdict re-open it, once each time they matter; and a verdict comes out the same again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trimtab.errors import StateError
from trimtab.journal import reader
from trimtab.journal.compact import compact
from trimtab.journal.rows import LabelRow, Row
from trimtab.journal.wal import Journal
from trimtab.late_labels import late_windows
from trimtab.ledger import Ledger
from trimtab.monitoring import performance_reference, profile
from trimtab.monitoring.policy import Decision
from trimtab.monitoring.verdict import Verdict
from trimtab.recompute import recompute, recorded
from trimtab.registry.package import PERFORMANCE, RELEASE
from trimtab.settings import Settings
from trimtab.task import CLASSIFICATION
from trimtab.watch import Watch
from trimtab.watch import known as module

RECIPE = """
name: demo
model: net:build
data: net:split
monitoring: {window: {rows: 40, min_labels: 10, label_wait_s: 0}}
"""
START = 10**18
SECOND = 10**9


def drawn(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    output = random.dirichlet([0.2, 0.2], n)
    return random.normal(size=(n, 1)).astype(np.float32), output, (random.random(n) >= output[:, 0]).astype(np.int64)


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    inputs, output, label = drawn(0, 400)
    known, columns = profile.build({"input": inputs}, output, label)
    own = performance_reference.build(columns, output, label, {}, CLASSIFICATION)
    (tmp_path / PERFORMANCE).write_text(json.dumps(own.to_json()))
    (tmp_path / RELEASE).write_text(json.dumps({"figures": {}}))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    monkeypatch.setattr(module, "current_champion", lambda uri, name: 1)
    monkeypatch.setattr(Watch, "reference", lambda self, version: (known, columns))
    monkeypatch.setattr(Watch, "release", lambda self, version: tmp_path)
    return Watch(tmp_path / "recipe.yaml", Settings(home=tmp_path / "home", mlflow_tracking_uri="http://unused"))


def answer(watch: Watch, seed: int, n: int = 40) -> Callable[[int, int], None]:
    """Rows in the journal; what comes back labels some of them."""
    inputs, output, label = drawn(seed, n)
    rows = [
        Row(f"{seed}-{i}", 0, START + i * SECOND, "1", {"input": inputs[i]}, output[i], int(output[i].argmax()),
            float(output[i].max()), 0.1)
        for i in range(n)
    ]  # fmt: skip
    with Journal(watch.journal) as journal:
        journal.append(rows)

    def send(lo: int, hi: int) -> None:
        came = START + (1000 * seed + hi) * SECOND
        with Journal(watch.journal) as journal:
            journal.submit_labels([LabelRow(f"{seed}-{i}", 0, int(label[i]), came) for i in range(lo, hi)]).result()

    return send


def judged(watch: Watch, lo: int = 0, hi: int = 40) -> Verdict:
    verdict = watch.judge(reader.window(watch.journal, lo, hi))
    watch.record(verdict)
    return verdict


def test_a_verdict_is_opened_again_when_labels_become_enough_and_when_they_double(watch: Watch) -> None:
    send = answer(watch, 1)
    send(0, 4)
    first = judged(watch)
    assert (first.revision, first.performance.answer) == (0, "too_few_labels")
    assert late_windows(watch) == []
    send(4, 9)
    assert late_windows(watch) == []
    send(9, 12)
    assert late_windows(watch) == [(0, 40)]
    second = judged(watch)
    assert (second.revision, second.replaces, second.replaced_kind) == (1, first.digest, first.kind)
    assert second.performance.answer != "too_few_labels"
    assert late_windows(watch) == []
    send(12, 23)
    assert late_windows(watch) == []
    send(23, 40)
    assert late_windows(watch) == [(0, 40)]
    third = judged(watch)
    assert (third.revision, third.replaces) == (2, second.digest)
    assert late_windows(watch) == []  # every row has its label
    assert [verdict.revision for verdict in watch.verdicts()] == [0, 1, 2]


@pytest.mark.parametrize("compacted", [False, True])
def test_labels_are_counted_by_id_duplicates_once_and_strangers_not_at_all(watch: Watch, compacted: bool) -> None:
    send = answer(watch, 1)
    judged(watch)
    for _ in range(3):
        send(0, 6)
    with Journal(watch.journal, segment_bytes=1) as journal:
        journal.submit_labels([LabelRow(f"nobody-{i}", 0, 1, START) for i in range(20)]).result()
        journal.append([Row("last", 0, START, "1", None, [0.5, 0.5], 0, 0.5, 0.1)])
    if compacted:
        assert compact(watch.journal) > 0
    assert reader.labelled(watch.journal, [(0, 40), (0, 3), (40, 41)]) == [6, 3, 0]
    assert late_windows(watch) == []


def test_the_place_in_the_journal_stays_where_it_was_and_later_windows_are_not_hidden(watch: Watch) -> None:
    send = answer(watch, 1)
    answer(watch, 2)
    first = judged(watch)
    later = replace(watch.judge(reader.window(watch.journal, 40, 80)), kind="drift+damage")
    watch.record(later)
    send(0, 40)
    again = watch.judge(reader.window(watch.journal, 0, 40))
    watch.record(replace(again, kind="healthy"))
    assert watch.position()[0] == 80
    assert watch.verdicts()[-1].digest == later.digest  # a quiet revision hides nothing
    assert watch.decide().verdict_digest == later.digest
    assert "has replaced this one" in watch.decide(first.digest).reason
    assert watch.next_window().window is None


def test_a_revision_that_finds_damage_is_what_is_decided_on_and_estimated_damage_that_holds_retrains(
    watch: Watch,
) -> None:
    send = answer(watch, 1)
    answer(watch, 2)
    watch.record(replace(judged_only(watch, 0, 40), kind="damage_estimated"))
    watch.record(replace(judged_only(watch, 40, 80), kind="healthy"))
    send(0, 40)
    confirmed = replace(judged_only(watch, 0, 40), kind="damage")
    assert confirmed.replaced_kind == "damage_estimated"
    watch.record(confirmed)
    assert watch.verdicts()[-1].digest == confirmed.digest
    decision = watch.decide()
    assert (decision.action, decision.verdict_digest) == ("retrain", confirmed.digest)
    assert "as was estimated" in decision.reason


def judged_only(watch: Watch, lo: int, hi: int) -> Verdict:
    return watch.judge(reader.window(watch.journal, lo, hi))


def test_a_window_with_a_reaction_or_beyond_the_horizon_is_not_opened(watch: Watch, tmp_path: Path) -> None:
    send = answer(watch, 1)
    answer(watch, 2)
    first = judged(watch)
    judged(watch, 40, 80)
    send(0, 40)
    assert late_windows(watch) == [(0, 40)]
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("monitoring: {", "monitoring: {label_horizon: 1, "))
    assert late_windows(Watch(tmp_path / "recipe.yaml", watch.settings)) == []
    watch.begin(Decision("retrain", "damage", first.digest), "run-1")
    assert late_windows(watch) == []
    again = judged(watch)
    assert again.digest in watch.reacted()  # of a verdict that was made all the same


def test_every_verdict_comes_out_the_same_again_whatever_came_later(watch: Watch) -> None:
    send = answer(watch, 1)
    send(0, 12)
    judged(watch)
    second = answer(watch, 2)
    second(0, 40)
    judged(watch, 40, 80)
    send(12, 40)
    judged(watch)
    compact(watch.journal)
    for seq in (1, 2, 3):
        found = recompute(watch.settings, "demo", seq)
        assert found.same, found.differs
    assert recorded(watch.settings, "demo", 3).entry["verdict"]["revision"] == 1


def test_a_verdict_that_was_made_up_does_not_come_out_the_same(watch: Watch) -> None:
    answer(watch, 1)(0, 40)
    verdict = watch.judge(reader.window(watch.journal, 0, 40))
    watch.record(replace(verdict, kind="healthy", reasons=("all is well",)))
    found = recompute(watch.settings, "demo", 1)
    assert not found.same
    assert "reasons" in found.differs


def test_what_cannot_be_made_again_is_said(watch: Watch, tmp_path: Path) -> None:
    with pytest.raises(StateError, match="no entry 1"):
        recompute(watch.settings, "demo", 1)
    answer(watch, 1)
    verdict = watch.judge(reader.window(watch.journal, 0, 40))
    ledger = Ledger(watch.settings.ledger)
    ledger.record("verdicts/demo", {"passed_over": "version 1 was replaced", "lo": 0, "hi": 3}, None)
    old = replace(verdict, labels=None, estimated=None, figures=())
    ledger.record("verdicts/demo", {"verdict": old.to_json(), "digest": old.digest, "lo": 0, "hi": 40}, None)
    with pytest.raises(StateError, match="no verdict: version 1"):
        recompute(watch.settings, "demo", 1)
    with pytest.raises(StateError, match="before verdicts kept"):
        recompute(watch.settings, "demo", 2)
    watch.record(replace(verdict, replaces=old.digest, revision=1))
    other = tmp_path / "other.yaml"
    other.write_text(RECIPE.replace("demo", "another"))
    with pytest.raises(StateError, match="'another'"):
        recompute(watch.settings, "demo", 3, other)
