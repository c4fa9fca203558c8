"""The ledger: append-only, compare-and-set, hash-chained, and nothing lost when processes race."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from trimtab.errors import Conflict, StateError
from trimtab.ledger import Ledger

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def open_ledger(folder: Path, **options: Any) -> Ledger:
    return Ledger(f"sqlite:///{folder / 'state' / 'ledger.db'}", **options)


def tamper(folder: Path, statement: str) -> None:
    with sqlite3.connect(folder / "state" / "ledger.db") as connection:
        connection.execute(statement)


def test_entries_come_back_numbered_from_one_with_the_clock_s_time_in_utc(tmp_path: Path) -> None:
    eastern = NOON.astimezone(timezone(timedelta(hours=-5)))
    ledger = open_ledger(tmp_path, clock=lambda: eastern)
    assert ledger.record("a", {"x": 1, "text": "é"}, 0) == 1
    assert ledger.record("a", {"x": 2}, None) == 2
    entries = ledger.read("a")
    assert [entry.seq for entry in entries] == [1, 2]
    assert entries[0].entry == {"x": 1, "text": "é"}
    assert entries[0].time == NOON.isoformat()
    assert [entry.seq for entry in ledger.read("a", after=1)] == [2]


def test_streams_are_independent_and_listed_by_prefix(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    for stream in ("promotions/b", "promotions/a", "Promotions/c", "verdicts/a"):
        assert ledger.record(stream, {}, 0) == 1
    assert ledger.streams("promotions/") == ["promotions/a", "promotions/b"]
    assert len(ledger.streams()) == 4
    assert ledger.head("promotions/a") == 1
    assert ledger.head("nothing") == 0


def test_a_writer_who_expects_another_head_gets_conflict_and_writes_nothing(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    ledger.record("a", {"x": 1}, 0)
    for wrong in (0, 2):
        with pytest.raises(Conflict, match="entry 1 is the last one"):
            ledger.record("a", {"x": 2}, wrong)
    assert [entry.entry for entry in ledger.read("a")] == [{"x": 1}]


def test_an_entry_that_is_not_json_is_refused(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    for value in (float("nan"), object()):
        with pytest.raises(StateError, match="not JSON"):
            ledger.record("a", {"x": value}, None)
    assert ledger.head("a") == 0


def test_a_database_that_cannot_be_opened_says_so_without_the_password() -> None:
    with pytest.raises(StateError) as caught:
        Ledger("postgresql+psycopg2://me:secret@127.0.0.1:1/none")
    assert "secret" not in str(caught.value)
    with pytest.raises(StateError):
        Ledger("not a url")


@pytest.mark.parametrize(
    ("statement", "broken"),
    [
        ("UPDATE trimtab_ledger SET entry = '{\"x\":9}' WHERE seq = 2", 2),
        ("UPDATE trimtab_ledger SET time = '2020' WHERE seq = 3", 3),
        ("UPDATE trimtab_ledger SET entry = 'nonsense' WHERE seq = 1", 1),
        ("DELETE FROM trimtab_ledger WHERE seq = 2", 2),
        ("UPDATE trimtab_ledger SET hash = 'f' WHERE seq = 4", 4),
        ("UPDATE trimtab_ledger SET stream = 'b' WHERE seq = 1", 1),
    ],
)
def test_check_names_the_first_entry_that_was_tampered_with(tmp_path: Path, statement: str, broken: int) -> None:
    ledger = open_ledger(tmp_path)
    for x in range(4):
        ledger.record("a", {"x": x}, x)
    ledger.check("a")
    tamper(tmp_path, statement)
    with pytest.raises(StateError, match=f"entry {broken} "):
        ledger.check("a")


def test_an_entry_moved_to_another_stream_does_not_fit_there(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    ledger.record("a", {"x": 1}, 0)
    tamper(tmp_path, "UPDATE trimtab_ledger SET stream = 'b'")
    with pytest.raises(StateError):
        ledger.check("b")


def _append(url: str, writer: int, count: int, first_try_wins: Any) -> None:
    ledger = Ledger(url)  # creating the table races too
    for number in range(count):
        ledger.record("race", {"writer": writer, "number": number}, None)
    try:
        ledger.record("once", {"writer": writer}, 0)
        with first_try_wins.get_lock():
            first_try_wins.value += 1
    except Conflict:
        pass


def test_eight_processes_racing_lose_nothing_and_one_wins_the_compare_and_set(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    url, wins = f"sqlite:///{tmp_path / 'new' / 'ledger.db'}", context.Value("i", 0)
    workers = [context.Process(target=_append, args=(url, writer, 15, wins)) for writer in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 8
    ledger = Ledger(url)
    entries = ledger.read("race")
    assert [entry.seq for entry in entries] == list(range(1, 121))
    seen = {(entry.entry["writer"], entry.entry["number"]) for entry in entries}
    assert seen == {(writer, number) for writer in range(8) for number in range(15)}
    ledger.check("race")
    assert wins.value == 1
    assert ledger.head("once") == 1


def test_an_entry_is_on_disk_when_record_returns(tmp_path: Path) -> None:
    open_ledger(tmp_path).record("a", {"x": 1}, 0)
    with sqlite3.connect(tmp_path / "state" / "ledger.db") as connection:
        rows = connection.execute("SELECT seq, entry FROM trimtab_ledger").fetchall()
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert [(seq, json.loads(entry)) for seq, entry in rows] == [(1, {"x": 1})]
