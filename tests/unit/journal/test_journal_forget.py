"""Old rows go, needed ones stay, offsets never change, and a window into what is gone says why."""

from __future__ import annotations

import datetime
import os
import time
from pathlib import Path

import pytest
from test_journal_wal import row

from trimtab.errors import StateError
from trimtab.journal import forget as module
from trimtab.journal import log
from trimtab.journal.compact import compact
from trimtab.journal.forget import forget
from trimtab.journal.layout import FORGOTTEN, forgotten_below, layout
from trimtab.journal.reader import end, window
from trimtab.journal.wal import Journal

DAY_NS = 86_400 * 10**9
FIRST = datetime.date(2026, 3, 1)
NOON = int(datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC).timestamp()) * 10**9
TODAY = datetime.date(2026, 4, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten days of three rows, the day's first one labelled; all compacted but the last label."""
    folder = tmp_path / "j"
    with Journal(folder, segment_bytes=64) as journal:
        for day in range(10):
            now = NOON + day * DAY_NS
            journal.append([row(f"d{day}", index, time_ns=now) for index in range(3)])
            journal.label(f"d{day}", 0, 1, now + 1)
    assert compact(folder) > 0
    return folder


def day(number: int) -> datetime.date:
    return FIRST + datetime.timedelta(days=number)


def held(folder: Path) -> set[str]:
    return {path.parent.name for path in (folder / "rows").glob("*/*.parquet")}


def test_rows_and_labels_of_days_before_are_deleted_and_how_much_is_told(folder: Path) -> None:
    size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    done = forget(folder, day(4), 30, TODAY)
    assert (done.rows, done.labels, done.below, done.kept_for_need) == (12, 4, 12, 0)
    assert done.bytes == size - sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    assert held(folder) == {f"date={day(number)}" for number in range(4, 10)}
    assert forget(folder, day(4), 30, TODAY).to_json() == {
        "rows": 0, "labels": 0, "bytes": 0, "below": 12, "kept_for_need": 0,
    }  # fmt: skip


def test_offsets_go_on_and_what_is_left_is_read_as_before(folder: Path) -> None:
    before = window(folder, 12, 30)
    forget(folder, day(4), 30, TODAY)
    after = window(folder, 12, 30)
    assert after.request_id.tolist() == before.request_id.tolist()
    assert after.label.tolist() == before.label.tolist()
    with Journal(folder) as journal:
        assert journal.rows == 30
        assert journal.append([row("new")]) == 31
        assert journal.label("d9", 0, 2, 5)
        assert not journal.label("d0", 0, 2, 5)  # its row is gone, so it is an unknown one
    assert end(folder) == 31


def test_a_window_into_what_is_gone_says_that_it_was_old(folder: Path) -> None:
    forget(folder, day(4), 30, TODAY)
    with pytest.raises(StateError, match="3 of the rows from 9 to 15 were deleted because they were old") as caught:
        window(folder, 9, 15)
    assert "retention_days" in caught.value.fix
    assert window(folder, 12, 15).labelled == 1


@pytest.mark.parametrize("needed", [0, 1, 3, 11, 12, 13, 29, 30])
def test_no_row_from_the_needed_offset_on_is_deleted_nor_a_label_that_its_window_counts(folder: Path, needed: int):
    before = window(folder, needed, 30)
    done = forget(folder, day(99), needed, datetime.date(2027, 1, 1))
    after = window(folder, needed, 30)
    assert after.request_id.tolist() == before.request_id.tolist()
    assert after.label.tolist() == before.label.tolist()
    assert (after.unknown_labels, after.duplicates) == (before.unknown_labels, before.duplicates)
    assert done.rows <= needed
    assert done.kept_for_need + done.rows == 30


def test_a_day_in_the_future_of_a_wrong_clock_has_the_age_of_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "j"
    with Journal(folder, segment_bytes=64) as journal:
        journal.append([row("wrong", time_ns=NOON + 9999 * DAY_NS)])
        journal.append([row("next", time_ns=NOON)])
    compact(folder)
    (path,) = (folder / "rows").glob("*/*.parquet")
    written = datetime.datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=datetime.UTC).timestamp()
    os.utime(path, (written, written))
    assert forget(folder, TODAY, 2, TODAY).rows == 0
    os.utime(path, (NOON / 1e9, NOON / 1e9))
    assert forget(folder, TODAY, 2, TODAY).rows == 1


def test_the_reason_is_on_disk_before_the_first_file_is_gone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def dies(path: Path) -> int:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module, "_delete", dies)
        with pytest.raises(Killed):
            forget(folder, day(4), 30, TODAY)
    assert forgotten_below(folder) == 12
    assert window(folder, 0, 30).labelled == 10
    assert forget(folder, day(4), 30, TODAY).rows == 12


def test_a_damaged_memory_of_what_was_deleted_is_told(folder: Path) -> None:
    (folder / FORGOTTEN).write_text("{}")
    with pytest.raises(StateError, match="forgotten"):
        forget(folder, day(4), 30, TODAY)


def test_no_journal_has_nothing_to_delete(tmp_path: Path) -> None:
    assert forget(tmp_path / "none", TODAY, 0).rows == 0


def test_a_segment_of_another_day_is_closed_by_the_next_row_and_can_then_be_compacted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.append([row("a")])
        journal.append([row("b")])
        assert len(layout(tmp_path / "j").closed) == 0
        monkeypatch.setattr(log, "_today", lambda real=log._today(): real + 1)
        journal.append([row("c")])
        assert len(layout(tmp_path / "j").closed) == 1
        journal.append([row("d")])
        assert len(layout(tmp_path / "j").closed) == 1
        assert compact(tmp_path / "j") == 1
        assert window(tmp_path / "j", 0, 4).request_id.tolist() == ["a", "b", "c", "d"]


def test_a_quiet_service_closes_yesterdays_segment_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path / "j", idle_s=0.01) as journal:
        journal.append([row("a")])
        monkeypatch.setattr(log, "_today", lambda real=log._today(): real + 1)
        deadline = time.monotonic() + 20
        while not layout(tmp_path / "j").closed and time.monotonic() < deadline:
            time.sleep(0.01)
        assert compact(tmp_path / "j") == 1
        assert journal.append([row("b")]) == 2
    assert window(tmp_path / "j", 0, 2).request_id.tolist() == ["a", "b"]


def test_a_day_without_rows_makes_no_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path / "j", idle_s=0.005) as journal:
        monkeypatch.setattr(log, "_today", lambda real=log._today(): real + 1)
        time.sleep(0.1)
        assert layout(tmp_path / "j").closed == []
        journal.append([row("a")])
        assert layout(tmp_path / "j").closed == []
