"""Retention as a task: compacts, asks what is needed, deletes the rest, and waits for a reaction to end."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from tasks.monitor import compact_journal
from tasks.retention import Deleted, forget_rows, in_words
from trimtab.errors import Conflict
from trimtab.journal import Row
from trimtab.journal.forget import Forgotten
from trimtab.journal.reader import end
from trimtab.journal.wal import Journal

DAY_NS = 86_400 * 10**9


class Watch:
    """As much of a watch as retention asks."""

    def __init__(self, journal: Path, needed: int, taken: bool = False) -> None:
        self.name, self.journal, self.needed, self.taken = "demo", journal, needed, taken
        self.challenger_journal = journal.with_name("j@challenger")

    def needed_from(self) -> int:
        return self.needed

    def expire(self) -> list[Any]:
        return []

    @contextmanager
    def reacting(self) -> Any:
        if self.taken:
            raise Conflict("a reaction for demo is already running")
        yield


def journal(folder: Path) -> Path:
    """Rows that are 40, 20 and 0 days old."""
    now = int(datetime.now(UTC).timestamp()) * 10**9
    with Journal(folder, segment_bytes=64) as opened:
        for age in (40, 20, 0):
            opened.append([Row(f"r{age}", 0, now - age * DAY_NS, "1", None, [0.5, 0.5], 0, 0.5, 1.0)])
    return folder


@pytest.mark.parametrize(("days", "needed", "rows"), [(30, 3, 1), (10, 3, 2), (90, 3, 0), (10, 1, 1), (10, 0, 0)])
def test_old_rows_that_nothing_needs_are_deleted(tmp_path: Path, days: int, needed: int, rows: int) -> None:
    folder = journal(tmp_path / "j")
    with disable_run_logger():
        done = forget_rows.fn(Watch(folder, needed), days)  # type: ignore[arg-type]
    assert done is not None
    assert done.champion.rows == rows
    assert done.challenger.rows == 0
    assert end(folder) == 3


@pytest.mark.parametrize(("days", "rows"), [(30, 1), (10, 2), (90, 0)])
def test_what_challengers_answered_is_compacted_and_goes_by_age_alone(tmp_path: Path, days: int, rows: int) -> None:
    folder, theirs = journal(tmp_path / "j"), journal(tmp_path / "j@challenger")
    with disable_run_logger():
        done = forget_rows.fn(Watch(folder, 0), days)  # type: ignore[arg-type]
    assert done is not None
    assert (done.champion.rows, done.challenger.rows) == (0, rows)
    assert end(theirs) == 3
    assert len(list(theirs.glob("rows/*/*.parquet"))) == 2 - rows
    assert in_words(done, days).endswith("still need them") is (rows > 0)
    assert (f"; of challengers {rows} rows" in in_words(done, days)) is (rows > 0)
    assert done.to_json()["challenger"]["rows"] == rows


def test_the_monitor_compacts_both_journals(tmp_path: Path) -> None:
    folder, theirs = journal(tmp_path / "j"), journal(tmp_path / "j@challenger")
    assert compact_journal.fn(Watch(folder, 0)) == 4  # type: ignore[arg-type]
    assert len(list(theirs.glob("rows/*/*.parquet"))) == 2


def test_while_a_reaction_runs_nothing_is_deleted(tmp_path: Path) -> None:
    folder = journal(tmp_path / "j")
    with disable_run_logger():
        assert forget_rows.fn(Watch(folder, 3, taken=True), 10) is None  # type: ignore[arg-type]
    assert len(list(folder.glob("rows/*/*.parquet"))) == 2
    assert "the next run does" in in_words(None, 10)


def test_how_much_is_said_with_what_stays_for_need() -> None:
    nothing = Forgotten(0, 0, 0, 0, 0)
    assert in_words(Deleted(Forgotten(1200, 300, 4_000_000, 1200, 0), nothing), 30) == (
        "1200 rows and 300 labels older than 30 days deleted, 4.0 MB freed"
    )
    assert "; 7 as old stay" in in_words(Deleted(Forgotten(0, 0, 0, 0, 7), nothing), 30)
