"""The last segment of a journal that nobody writes any more is closed once it is old, and never under a writer."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from trimtab.errors import Conflict
from trimtab.journal import Row
from trimtab.journal.compact import compact
from trimtab.journal.reader import end, window
from trimtab.journal.resting import close_resting
from trimtab.journal.wal import Journal, lock_writer

TODAY = datetime.now(UTC).date()
LONG_AGO = time.time() - 40 * 86_400


def row(name: str) -> Row:
    return Row(name, 0, 10**18, "1", None, [0.5, 0.5], 0, 0.5, 1.0)


@pytest.fixture
def resting(tmp_path: Path) -> Path:
    """Two rows, written forty days ago."""
    with Journal(tmp_path) as opened:
        opened.append([row("a"), row("b")])
    for segment in tmp_path.glob("wal-*.log"):
        os.utime(segment, (LONG_AGO, LONG_AGO))
    return tmp_path


def test_a_segment_that_rests_is_closed_once_and_then_compacted(resting: Path) -> None:
    assert close_resting(resting, TODAY - timedelta(days=30))
    assert not close_resting(resting, TODAY - timedelta(days=30))
    assert compact(resting) == 1
    assert end(resting) == 2
    with Journal(resting) as opened:
        opened.append([row("c")])
    assert list(window(resting, 0, 3).request_id) == ["a", "b", "c"]


def test_one_that_was_written_since_is_left_open(resting: Path) -> None:
    assert not close_resting(resting, TODAY - timedelta(days=41))
    assert compact(resting) == 0


def test_under_a_writer_nothing_is_closed(resting: Path) -> None:
    handle = lock_writer(resting)
    try:
        with pytest.raises(Conflict, match="writes this journal"):
            lock_writer(resting)
        assert not close_resting(resting, TODAY)
    finally:
        os.close(handle)
    assert close_resting(resting, TODAY)


def test_where_there_is_no_journal_there_is_nothing_to_close(tmp_path: Path) -> None:
    assert not close_resting(tmp_path / "none", TODAY)
    assert not (tmp_path / "none").exists()
