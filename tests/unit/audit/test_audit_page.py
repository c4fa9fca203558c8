"""The audit page says everything the ledger has, links what followed from what, and leads back to the rows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from policy_world import verdict

from trimtab import reactions
from trimtab.audit import render, timeline
from trimtab.audit.rows import COLUMNS, rows_of, to_csv
from trimtab.audit.timeline import verdict_id
from trimtab.audit.write import write_audit
from trimtab.errors import StateError
from trimtab.journal.rows import Row
from trimtab.journal.wal import Journal
from trimtab.ledger import Ledger
from trimtab.monitoring.policy import Decision, about
from trimtab.monitoring.verdict import Verdict
from trimtab.settings import Settings

NAME = "demo"


def record(ledger: Ledger, found: Verdict) -> None:
    entry = {"verdict": found.to_json(), "digest": found.digest, "lo": found.lo, "hi": found.hi}
    ledger.record(f"verdicts/{NAME}", entry, None)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A release that drifted, was proposed a retrain, approved, retrained and promoted."""
    settings = Settings(home=tmp_path)
    ledger = Ledger(settings.ledger)
    ledger.record(f"versions/{NAME}", {"act": "registered", "version": 1, "release_key": "k" * 64}, None)
    intent = {"act": "promoting", "kind": "promote", "version": 1, "from": None, "who": "ann", "why": "the first"}
    ledger.record(f"promotions/{NAME}", intent, None)
    ledger.record(f"promotions/{NAME}", {"act": "promoted", "intent": 1}, None)
    ledger.record(f"verdicts/{NAME}", {"passed_over": "version 0 was replaced", "lo": 0, "hi": 5}, None)
    damaged = verdict("drift+damage", version="1")
    record(ledger, damaged)
    ledger.record(f"alerts/{NAME}", {"subject": "damage: <b>bad</b>", "body": about(damaged.digest)}, None)
    decision = Decision("retrain", "because", damaged.digest, "damage", "e")
    reactions.propose(ledger, NAME, decision, "run-1")
    reactions.approve(ledger, NAME, damaged.digest, "bob")
    started = {"act": "started", "verdict": damaged.digest, **decision.to_json(), "run": "run-1"}
    ledger.record(reactions.stream(NAME), started, None)
    evidence = {"verdict": damaged.digest}
    ledger.record(
        f"promotions/{NAME}",
        {**intent, "version": 2, "from": 1, "why": "retrain", "evidence": evidence},
        None,
    )
    ledger.record(f"promotions/{NAME}", {"act": "promoted", "intent": 3}, None)
    release = {"version": 2, "accuracy": "97 %", "speedup": 3.25}
    finished = {"act": "finished", "verdict": damaged.digest, "run": "run-1", "outcome": "version 2 serves"}
    ledger.record(reactions.stream(NAME), {**finished, "version": 2, "end": 400, "release": release}, None)
    reactions.close_breaker(ledger, NAME, "ann", "mended")
    return settings


def test_everything_is_there_in_order_and_what_followed_leads_back_to_the_verdict(settings: Settings) -> None:
    found = timeline(Ledger(settings.ledger), NAME)
    damaged = verdict("drift+damage", version="1").digest

    assert [moment.kind for moment in found] == [
        "release",
        "serves",
        "skipped",
        "window",
        "alert",
        "proposal",
        "proposal",
        "reaction",
        "serves",
        "reaction",
        "reaction",
    ]
    following = [moment.title for moment in found if moment.follows == verdict_id(damaged)]
    assert len(following) == 6
    assert "retrain approved by bob" in following
    ended = next(moment for moment in found if "ended" in moment.title)
    assert ended.changed == "version 2 serves"
    assert {"accuracy: 97 %", "speedup: 3.25"} <= set(ended.details)


def test_the_page_is_whole_by_itself_escapes_what_it_shows_and_every_link_on_it_leads_somewhere(
    settings: Settings,
) -> None:
    path, moments = write_audit(settings, NAME)
    page = path.read_text()

    assert path == settings.reports / NAME / "audit.html"
    assert "Version 2 serves. The way back is version 1." in page
    assert "&lt;b&gt;bad&lt;/b&gt;" in page
    assert not re.search(r"<script|https?://|<b>bad|src=", page)
    anchors = set(re.findall(r'id="([^"]+)"', page))
    assert anchors == {moment.id for moment in moments}
    assert set(re.findall(r'href="#([^"]+)"', page)) <= anchors
    assert 'href="window-0-200.html"' in page


def test_a_proposal_that_nobody_approved_ends_on_the_page(tmp_path: Path) -> None:
    ledger = Ledger(Settings(home=tmp_path).ledger)
    reactions.propose(ledger, NAME, Decision("retrain", "because", "abc", "damage", "e"), "run-1", expires=0.0)
    reactions.expire(ledger, NAME, 1.0)

    asked, over = timeline(ledger, NAME)

    assert "can be approved until 1970-01-01 00:00 UTC" in asked.details
    assert over.title == "retrain expired: nobody approved it in time"
    assert (over.kind, over.tone, over.changed) == ("proposal", "bad", "nothing")


def test_a_name_of_which_nothing_is_known_has_a_page_that_says_so(tmp_path: Path) -> None:
    page = render("new", timeline(Ledger(Settings(home=tmp_path).ledger), "new"), "Nothing serves yet.")

    assert "Nothing has happened yet." in page


def test_from_a_verdict_back_to_its_rows(settings: Settings) -> None:
    journal = Journal(settings.journal / NAME)
    for index in range(200):
        row = Row(f"r{index}", 0, 10**18 + index, "1", {"x": np.zeros(1)}, [0.5, 0.5], 0, 0.5, 1.0)
        journal.append([row])
    journal.label("r3", 0, 1, 10**18)
    journal.close()
    digest = verdict("drift+damage", version="1").digest

    lines = to_csv(rows_of(settings, NAME, digest[:10])).splitlines()

    assert lines[0] == ",".join(COLUMNS)
    assert len(lines) == 201
    assert lines[4].startswith("3,r3,0,")
    assert lines[4].endswith(",1")
    with pytest.raises(StateError, match="no verdict"):
        rows_of(settings, NAME, "ffff")
