"""The history: complete, readable by people, spreadsheets and programs, and every change behind our back shows."""

from __future__ import annotations

import csv
import io
import sqlite3
from pathlib import Path

import pytest

from trimtab.ledger import Ledger
from trimtab.registry.history import Change, Mark, changes, tampering, to_csv, to_markdown
from trimtab.registry.pages import HEADING, with_history

NAME = "digits"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Ledger:
    """Versions 1 and 2 registered; 1 promoted, 2 promoted, rolled back to 1."""
    ledger = Ledger(f"sqlite:///{path}")
    for version in (1, 2):
        entry = {"act": "registered", "version": version, "release_key": f"k{version}", "evidence": f"{version}" * 64}
        ledger.record(f"versions/{NAME}", entry, None)
    promote(ledger, "promote", 1, None, "ann", "first")
    promote(ledger, "promote", 2, 1, "bob", "better | <b>")
    promote(ledger, "rollback", 1, 2, "eve", "=1+1")
    return ledger


def promote(ledger: Ledger, kind: str, version: int, before: int | None, who: str, why: str) -> None:
    intent = {"act": "promoting", "kind": kind, "version": version, "from": before, "who": who, "why": why}
    seq = ledger.record(f"promotions/{NAME}", {**intent, "evidence": {"report": version}}, None)
    ledger.record(f"promotions/{NAME}", {"act": "promoted", "intent": seq}, None)


def tampered(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as connection:
        assert connection.execute(statement).rowcount > 0


def mark(ledger: Ledger) -> Mark:
    last = ledger.read(f"promotions/{NAME}")[-1]
    return Mark(last.seq, last.hash)


def test_every_change_is_there_with_who_why_from_to_and_both_digests(ledger: Ledger) -> None:
    found = changes(ledger, NAME)
    assert [(one.kind, one.before, one.after, one.who) for one in found] == [
        ("promote", None, 1, "ann"),
        ("promote", 1, 2, "bob"),
        ("rollback", 2, 1, "eve"),
    ]
    assert [one.gate for one in found] == ["1" * 64, "2" * 64, "1" * 64]
    assert len({one.evidence for one in found}) == 2
    assert found[0].to_json().items() >= {"from": None, "to": 1, "why": "first"}.items()


def test_csv_has_a_line_a_change_and_no_reason_that_a_spreadsheet_would_run(ledger: Ledger) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(changes(ledger, NAME)))))
    assert [(row["from"], row["to"]) for row in rows] == [("", "1"), ("1", "2"), ("2", "1")]
    assert rows[2]["why"] == "'=1+1"


def test_the_table_for_mlflow_keeps_its_columns_whatever_the_reason_is(ledger: Ledger) -> None:
    lines = to_markdown(changes(ledger, NAME)).splitlines()
    assert "better \\| &lt;b>" in lines[3]
    assert {line.replace("\\|", "").count("|") for line in lines} == {8}
    assert "eve" in lines[2]  # the newest first


def test_the_page_keeps_what_stands_above_its_history(ledger: Ledger) -> None:
    once = with_history("# A release\n\n| p99 | 1 ms |", changes(ledger, NAME)[:1])
    again = with_history(once, changes(ledger, NAME))
    assert again.startswith("# A release\n\n| p99 | 1 ms |" + HEADING)
    assert again.count(HEADING) == 1
    assert with_history(again, []) == "# A release\n\n| p99 | 1 ms |"


def test_an_untouched_ledger_shows_nothing(ledger: Ledger) -> None:
    assert tampering(ledger, NAME, mark(ledger)) == []


@pytest.mark.parametrize(
    "statement",
    [
        "update trimtab_ledger set entry = replace(entry, 'bob', 'ann') where stream = 'promotions/digits'",
        "update trimtab_ledger set time = '2020-01-01T00:00:00+00:00' where stream = 'promotions/digits' and seq = 3",
        "delete from trimtab_ledger where stream = 'promotions/digits' and seq = 3",
        "update trimtab_ledger set entry = replace(entry, 'k2', 'k1') where stream = 'versions/digits'",
    ],
    ids=["who", "when", "removed", "version"],
)
def test_a_changed_or_removed_entry_shows(ledger: Ledger, path: Path, statement: str) -> None:
    tampered(path, statement)
    (line,) = tampering(ledger, NAME)
    assert "was changed, removed or inserted" in line


def test_a_tail_that_was_cut_off_shows_against_mlflow_s_mark(ledger: Ledger, path: Path) -> None:
    known = mark(ledger)
    tampered(path, "delete from trimtab_ledger where stream = 'promotions/digits' and seq > 4")
    assert tampering(ledger, NAME) == []  # the chain alone cannot know
    (line,) = tampering(ledger, NAME, known)
    assert "cut off" in line


def test_a_tail_that_was_written_anew_shows_against_mlflow_s_mark(ledger: Ledger, path: Path) -> None:
    known = mark(ledger)
    tampered(path, "delete from trimtab_ledger where stream = 'promotions/digits' and seq > 4")
    promote(ledger, "rollback", 1, 2, "nobody", "never happened")
    (line,) = tampering(ledger, NAME, known)
    assert "is another than MLflow was told of" in line


def test_a_mark_is_read_back_and_what_is_none_is_not(ledger: Ledger) -> None:
    assert Mark.parse(str(mark(ledger))) == mark(ledger)
    assert [Mark.parse(text) for text in (None, "", "1", "x:" + "0" * 64, "1:short", "-1:" + "0" * 64)] == [None] * 6


def test_there_is_no_history_before_the_first_promotion(tmp_path: Path) -> None:
    found: list[Change] = changes(Ledger(f"sqlite:///{tmp_path / 'empty.db'}"), NAME)
    assert found == []
    assert with_history("page", found) == "page"


def test_a_page_of_many_changes_fits_mlflows_column_and_keeps_the_newest(ledger: Ledger) -> None:
    for number in range(60):
        promote(ledger, "promote", 2 - number % 2, 1 + number % 2, "ann", f"change {number} " + "x" * 100)
    page = with_history("# A release", changes(ledger, NAME))
    assert len(page) <= 5000
    assert "change 59" in page
    assert "change 0 " not in page
    assert "older: `trimtab history`" in page
