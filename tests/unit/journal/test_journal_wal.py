"""The writer: what it acknowledged is there after any crash, what it refused is not."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest

from trimtab.errors import Conflict, StateError
from trimtab.journal import LabelRow, Row
from trimtab.journal.exchanges import Exchange
from trimtab.journal.log import AHEAD, SyncFailed
from trimtab.journal.mark import read_mark
from trimtab.journal.reader import end, window
from trimtab.journal.segments import list_segments
from trimtab.journal.wal import Journal, JournalError


def row(request_id: str, index: int = 0, value: float = 0.5, **changes) -> Row:
    fields = {
        "request_id": request_id, "row": index, "time_ns": 1_700_000_000_000_000_000, "version": "3",
        "inputs": {"input": np.full((1, 2, 2), value, np.float32)}, "output": [0.25, 0.75], "predicted": 1,
        "confidence": 0.75, "latency_ms": 1.5,
    }  # fmt: skip
    return Row(**{**fields, **changes})


def test_append_tells_the_number_of_rows_after_it(tmp_path):
    with Journal(tmp_path / "j") as journal:
        assert journal.append([row("a", 0), row("a", 1)]) == 2
        assert journal.append([row("b")]) == 3
        assert end(tmp_path / "j") == 3


def test_rows_come_back_as_they_were_written(tmp_path):
    with Journal(tmp_path / "j") as journal:
        journal.append([row("a", 0, 0.125), row("a", 1, 7.0)])
        journal.append([row("b", output=(), predicted=-1, confidence=float("nan"), status=500, error="ValueError")])
    found = window(tmp_path / "j", 0, 3)
    assert found.request_id.tolist() == ["a", "a", "b"]
    assert found.row.tolist() == [0, 1, 0]
    assert found.version.tolist() == ["3"] * 3
    assert found.inputs["input"].dtype == np.float32
    assert found.inputs["input"][:, 0, 0, 0].tolist() == [0.125, 7.0, 0.5]
    assert found.output[:2].tolist() == [[0.25, 0.75]] * 2
    assert np.isnan(found.output[2]).all()
    assert found.predicted.tolist() == [1, 1, -1]
    assert found.status.tolist() == [200, 200, 500]
    assert found.errors == {"ValueError": 1}
    assert found.latency_ms.tolist() == [1.5] * 3


def exchange(request_id: str, rows: int, output: np.ndarray | None, **more: Any) -> Exchange:
    """One of `rows` rows whose inputs are their indices."""
    inputs = {"input": np.stack([np.full((1, 2, 2), index, np.float32) for index in range(rows)])}
    return Exchange(request_id, "1", rows, 7, 1.5, more.pop("inputs", inputs), output, **more)


def test_exchanges_are_written_as_their_rows_are_and_labels_find_them(tmp_path):
    rows = [row("a", index, float(index)) for index in range(3)]
    with Journal(tmp_path / "rows") as journal:
        journal.append(rows)
    settled: list[Any] = []
    with Journal(tmp_path / "exchange") as journal:
        journal.submit_exchange(exchange("a", 3, np.full((3, 2), (0.25, 0.75), np.float32)), settled.append)
        labels = journal.submit_labels([LabelRow("a", 2, 1, 5)])
        assert labels.result() == [True]
    assert settled == [3]
    one, other = window(tmp_path / "rows", 0, 3), window(tmp_path / "exchange", 0, 3)
    assert other.request_id.tolist() == one.request_id.tolist()
    assert other.row.tolist() == one.row.tolist()
    assert other.inputs["input"].tolist() == one.inputs["input"].tolist()
    assert other.output.tolist() == one.output.tolist()
    assert other.predicted.tolist() == [1, 1, 1]
    assert other.confidence.tolist() == [0.75] * 3
    assert other.label.tolist() == [-1, -1, 1]


def test_exchanges_that_share_a_sync_keep_their_order_and_one_that_cannot_be_written_fails_alone(tmp_path, monkeypatch):
    answer = np.array([[0.25, 0.75]], np.float32)
    release = threading.Event()
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda handle: (release.wait(10), real(handle)))
    settled: dict[str, Any] = {}
    with Journal(tmp_path / "j") as journal:
        journal.submit_exchange(exchange("first", 1, answer), lambda outcome: settled.update(first=outcome))
        for name, given in {
            "b": exchange("b", 2, np.repeat(answer, 2, axis=0)),
            "bad": exchange("bad", 1, answer, inputs={"input": np.zeros((1, 1), "M8[s]")}),
            "c": exchange("c", 1, None, error="ValueError"),
            "d": exchange("d", 1, np.array([[2.5]], np.float32), regression=True),
            "e": exchange("e", 1, answer),
            "f": exchange("f", 1, answer),
        }.items():
            journal.submit_exchange(given, lambda outcome, name=name: settled.update({name: outcome}))
        release.set()
    assert isinstance(settled.pop("bad"), JournalError)
    assert settled == {"first": 1, "b": 3, "c": 4, "d": 5, "e": 6, "f": 7}
    found = window(tmp_path / "j", 0, 7)
    assert found.request_id.tolist() == ["first", "b", "b", "c", "d", "e", "f"]
    assert found.row.tolist() == [0, 0, 1, 0, 0, 0, 0]
    assert found.predicted.tolist() == [1, 1, 1, -1, 0, 1, 1]
    assert found.status.tolist() == [200, 200, 200, 500, 200, 200, 200]
    assert np.isnan(found.confidence).tolist() == [False, False, False, True, True, False, False]


def test_offsets_continue_after_reopening(tmp_path):
    with Journal(tmp_path / "j") as journal:
        journal.append([row("a")])
    with Journal(tmp_path / "j") as journal:
        assert journal.append([row("b")]) == 2
    assert window(tmp_path / "j", 0, 2).request_id.tolist() == ["a", "b"]


def test_segments_rotate_by_size_and_offsets_run_through_them(tmp_path):
    with Journal(tmp_path / "j", segment_bytes=600) as journal:
        for index in range(20):
            assert journal.append([row(f"r{index}")]) == index + 1
    assert len(list_segments(tmp_path / "j")) > 3
    assert window(tmp_path / "j", 5, 15).request_id.tolist() == [f"r{index}" for index in range(5, 15)]


def test_a_second_writer_is_refused(tmp_path):
    with Journal(tmp_path / "j"), pytest.raises(Conflict, match="another process"):
        Journal(tmp_path / "j")
    Journal(tmp_path / "j").close()


@pytest.mark.parametrize("tail", [b"\x00" * 64, b"\x07", b"garbage that is no record at all", None])
def test_a_torn_tail_is_cut_and_writing_goes_on(tmp_path, tail):
    folder = tmp_path / "j"
    with Journal(folder) as journal:
        journal.append([row("kept")])
        mark = read_mark(folder)
        assert mark is not None
        size = mark.size
        journal.append([row("half")])
    path = list_segments(folder)[-1].path
    whole = path.read_bytes()
    # As after a power cut in the middle of the second write: it was never acknowledged, nor its end published.
    path.write_bytes(whole[:size] + (whole[size:-5] if tail is None else tail))
    (folder / "durable").unlink()
    with Journal(folder) as journal:
        assert journal.rows == 1
        assert journal.append([row("next")]) == 2
    assert window(folder, 0, 2).request_id.tolist() == ["kept", "next"]


@pytest.mark.parametrize("place", [-3, -60])
def test_damage_to_an_acknowledged_record_is_told_not_cut(tmp_path, place):
    folder = tmp_path / "j"
    with Journal(folder) as journal:
        journal.append([row("a")])
        journal.append([row("b")])
    path = list_segments(folder)[-1].path
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(StateError, match="damaged"):
        Journal(folder)
    with pytest.raises(StateError, match="damaged"):
        window(folder, 0, 2)
    assert path.read_bytes() == bytes(data)


def test_a_removed_segment_is_told(tmp_path):
    with Journal(tmp_path / "j") as journal:
        journal.append([row("a")])
    list_segments(tmp_path / "j")[-1].path.unlink()
    with pytest.raises(StateError, match="segment 1 is missing"):
        Journal(tmp_path / "j")


def test_concurrent_callers_share_syncs_and_each_gets_its_own_offset(tmp_path, monkeypatch):
    synced, calls = os.fdatasync, []
    first_sync = threading.Event()
    go_on = threading.Event()

    def slow(handle):
        calls.append(handle)
        first_sync.set()
        assert go_on.wait(10)
        synced(handle)

    with Journal(tmp_path / "j") as journal:
        monkeypatch.setattr(os, "fdatasync", slow)
        first = journal.submit([row("first")])
        assert first_sync.wait(10)
        rest = [journal.submit([row(f"r{index}"), row(f"r{index}", 1)]) for index in range(30)]
        assert not first.done()
        assert not any(future.done() for future in rest)
        go_on.set()
        assert first.result(10) == 1
        assert [future.result(10) for future in rest] == [1 + 2 * (index + 1) for index in range(30)]
    assert len(calls) == 2


def test_rows_not_yet_synced_are_not_shown_to_readers(tmp_path, monkeypatch):
    synced, started, go_on = os.fdatasync, threading.Event(), threading.Event()

    def slow(handle):
        started.set()
        assert go_on.wait(10)
        synced(handle)

    with Journal(tmp_path / "j") as journal:
        journal.append([row("a")])
        monkeypatch.setattr(os, "fdatasync", slow)
        future = journal.submit([row("b")])
        assert started.wait(10)
        seen = end(tmp_path / "j"), len(window(tmp_path / "j", 0, 1))
        go_on.set()
        future.result(10)
        assert seen == (1, 1)
        assert end(tmp_path / "j") == 2


@pytest.mark.parametrize("call", ["pwritev", "fdatasync"])
def test_a_full_disk_raises_leaves_nothing_and_heals(tmp_path, monkeypatch, call):
    folder, real = tmp_path / "j", getattr(os, call)

    def full(handle, *arguments):
        if call == "pwritev":
            real(handle, [b"".join(arguments[0])[:10]], arguments[1])  # a full disk takes a part of it
        raise OSError(errno.ENOSPC, "No space left on device")

    with Journal(folder) as journal:
        journal.append([row("a")])
        monkeypatch.setattr(os, call, full)
        for _ in range(2):
            with pytest.raises(JournalError, match="No space left"):
                journal.append([row("lost")])
        monkeypatch.setattr(os, call, real)
        assert end(folder) == 1
        assert journal.append([row("b")]) == 2
    assert window(folder, 0, 2).request_id.tolist() == ["a", "b"]
    with Journal(folder) as journal:
        assert journal.rows == 2


def test_a_disk_without_room_for_zeros_still_takes_records(tmp_path, monkeypatch):
    folder, real = tmp_path / "j", os.pwrite

    def nearly_full(handle, data, at):
        if len(data) == AHEAD:
            real(handle, data[:5000], at)
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data, at)

    monkeypatch.setattr(os, "pwrite", nearly_full)
    with Journal(folder) as journal:
        assert [journal.append([row(f"r{index}")]) for index in range(9)] == list(range(1, 10))
    monkeypatch.undo()
    assert window(folder, 0, 9).request_id.tolist() == [f"r{index}" for index in range(9)]


def test_what_the_kernel_takes_in_part_is_written_whole(tmp_path, monkeypatch):
    folder, real = tmp_path / "j", os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda handle, parts, at: real(handle, [b"".join(parts)[:101]], at))
    monkeypatch.setattr("trimtab.journal.log._PARTS", 7)
    with Journal(folder) as journal:
        assert [journal.append([row("a", index)]) for index in range(3)] == [1, 2, 3]
        journal.submit_exchange(exchange("b", 2, np.zeros((2, 2), np.float32)), lambda outcome: None)
    monkeypatch.undo()
    assert window(folder, 0, 5).request_id.tolist() == ["a"] * 3 + ["b"] * 2
    with Journal(folder) as journal:
        assert journal.rows == 5


def test_zeros_behind_the_last_record_are_no_unfinished_write_and_closed_segments_have_none(tmp_path, caplog):
    folder, killed = tmp_path / "j", tmp_path / "killed"
    with Journal(folder, segment_bytes=600) as journal:
        for index in range(7):
            journal.append([row(f"r{index}")])
        shutil.copytree(folder, killed)  # as a kill leaves it
    *closed, active = list_segments(killed)
    assert len(closed) > 1
    assert all(not segment.path.read_bytes().endswith(bytes(4096)) for segment in closed)
    assert active.path.read_bytes().endswith(bytes(4096))
    with Journal(killed) as journal:
        assert journal.append([row("next")]) == 8
    assert not caplog.records
    assert list_segments(folder)[-1].path.stat().st_size < AHEAD  # closed in order: nothing is left behind


def test_too_much_waiting_for_a_slow_disk_is_refused_at_once(tmp_path, monkeypatch):
    synced, started, go_on = os.fdatasync, threading.Event(), threading.Event()

    def slow(handle):
        started.set()
        assert go_on.wait(10)
        synced(handle)

    with Journal(tmp_path / "j", max_pending_bytes=1000) as journal:
        monkeypatch.setattr(os, "fdatasync", slow)
        journal.submit([row("a")])
        assert started.wait(10)
        journal.submit([row("b")])
        with pytest.raises(JournalError, match="too slow"):
            journal.submit([row("c"), row("c", 1), row("c", 2), row("c", 3)])
        go_on.set()
    assert end(tmp_path / "j") == 2


def test_what_cannot_be_written_fails_its_caller_only(tmp_path):
    with Journal(tmp_path / "j") as journal:
        with pytest.raises(TypeError, match="cannot be journalled"):
            journal.submit([row("bad", inputs={"input": np.array(["text"])})])
        with pytest.raises(OverflowError):
            journal.label("a", 0, 2**80, 1)
        assert journal.append([row("good")]) == 1


def test_a_closed_journal_refuses_and_closing_writes_what_waits(tmp_path):
    journal = Journal(tmp_path / "j")
    futures = [journal.submit([row(f"r{index}")]) for index in range(50)]
    journal.close()
    assert [future.result(0) for future in futures] == list(range(1, 51))
    with pytest.raises(JournalError, match="closed"):
        journal.append([row("late")])


def given(name, settle, journal, **how):
    image = np.zeros((1, 3), np.float32)
    journal.submit_exchange(Exchange(name, "1", 1, 1, 1.0, {"input": image}, image), settle, synced=False, **how)


def test_a_caller_may_write_what_was_submitted_on_its_own_thread(tmp_path):
    with Journal(tmp_path / "j") as journal:
        told = []
        for name in ("a", "b"):
            given(name, lambda rows: told.append((rows, threading.current_thread())), journal, wake=False)
        assert told == []  # nobody was woken
        journal.write()
        assert told == [(1, threading.current_thread()), (2, threading.current_thread())]
    assert list(window(tmp_path / "j", 0, 2).request_id) == ["a", "b"]


def test_while_one_thread_writes_another_leaves_its_rows_to_the_journal(tmp_path, monkeypatch):
    real, entered, go_on = os.pwritev, threading.Event(), threading.Event()

    def slow(*arguments):
        entered.set()
        assert go_on.wait(20)
        return real(*arguments)

    with Journal(tmp_path / "j") as journal:
        monkeypatch.setattr(os, "pwritev", slow)
        told = Queue()
        given("a", told.put, journal, wake=False)
        first = threading.Thread(target=journal.write)
        first.start()
        assert entered.wait(20)
        given("b", told.put, journal, wake=False)
        journal.write()  # returns at once
        assert told.empty()
        go_on.set()
        assert sorted([told.get(timeout=20), told.get(timeout=20)]) == [1, 2]
        first.join()


def test_a_failed_sync_of_before_does_not_stop_a_caller_that_writes(tmp_path, monkeypatch):
    """The next write begins a fresh segment; where that fails too, it is told and nothing is locked."""
    with Journal(tmp_path / "j") as journal:
        monkeypatch.setattr(journal._writer._log, "turn", raiser(SyncFailed("no")))
        told = []
        given("a", told.append, journal, wake=False)
        journal.write()
        assert isinstance(told[0], JournalError)
        monkeypatch.undo()
        given("b", told.append, journal, wake=False)
        journal.write()
        assert told[1] == 1


def test_rows_whose_sync_another_thread_calls_failed_are_not_written_twice(tmp_path, monkeypatch):
    """The writer may fail to close a segment in the moment in which its last rows were synced after all."""
    with Journal(tmp_path / "j") as journal:
        writer, fallen = journal._writer, threading.Event()
        real = writer._log.sync

        def sync():
            real()
            if not fallen.is_set():
                writer._fall(SyncFailed("of another thread"))
                fallen.set()

        monkeypatch.setattr(writer._log, "sync", sync)
        told = Queue()
        given("a", told.put, journal)
        assert told.get(timeout=20) == 1
        assert fallen.wait(20)
        given("b", told.put, journal)
        assert told.get(timeout=20) == 2
    assert list(window(tmp_path / "j", 0, end(tmp_path / "j")).request_id) == ["a", "b"]
    assert writer._bytes == 0  # nothing is counted as waiting for ever


def raiser(error):
    def fails(*arguments):
        raise error

    return fails


def test_an_unwritable_folder_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be opened"):
        Journal(tmp_path / "file" / "j")


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_journal_wal import row
from trimtab.journal.wal import Journal
journal = Journal(Path({folder!r}), segment_bytes=3000)
index = 0
while True:
    journal.append([row(f"r{{index}}")])
    print(index, flush=True)
    index += 1
"""


def test_kill_9_loses_no_acknowledged_row(tmp_path):
    folder = tmp_path / "j"
    code = KILLED.format(tests=str(Path(__file__).parent), folder=str(folder))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        acknowledged = [int(next(child.stdout)) for _ in range(60)]
        child.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in child.stdout if line.endswith("\n")]
    with Journal(folder) as journal:
        total = journal.rows
    assert total >= len(acknowledged)
    found = window(folder, 0, total)
    assert found.request_id.tolist() == [f"r{index}" for index in range(total)]


def early(journal: Journal, name: str, settled: dict[str, Any], rows: int = 1) -> None:
    """Rows of a request that is answered when they are written."""
    answer = np.repeat(np.array([[0.25, 0.75]], np.float32), rows, axis=0)
    journal.submit_exchange(exchange(name, rows, answer), lambda outcome: settled.update({name: outcome}), synced=False)


def refused(journal: Journal, name: str, settled: dict[str, Any]) -> bool:
    try:
        early(journal, name, settled)
    except JournalError as error:
        return "too slow" in str(error)
    return False


def wait_for(seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_written_row_is_acknowledged_before_its_sync_survives_a_kill_and_is_shown_to_readers_after_it(
    tmp_path, monkeypatch
):
    folder, synced, go_on = tmp_path / "j", os.fdatasync, threading.Event()
    settled: dict[str, Any] = {}
    with Journal(folder) as journal:
        monkeypatch.setattr(os, "fdatasync", lambda handle: (go_on.wait(20), synced(handle)))
        for index in range(3):
            early(journal, f"r{index}", settled, rows=2)
            wait_for(lambda index=index: f"r{index}" in settled)  # though no sync has ended
        assert settled == {"r0": 2, "r1": 4, "r2": 6}
        assert end(folder) == 0
        shutil.copytree(folder, tmp_path / "killed")  # as `kill -9` leaves it
        label = journal.submit_labels([LabelRow("r1", 1, 1, 1)])
        go_on.set()
        assert label.result(10) == [True]
        assert end(folder) == 6
    with Journal(tmp_path / "killed") as journal:
        assert journal.rows == 6
    assert window(tmp_path / "killed", 0, 6).request_id.tolist() == ["r0", "r0", "r1", "r1", "r2", "r2"]


def test_what_was_acknowledged_is_written_again_after_a_failed_sync_and_who_waited_for_it_is_told(
    tmp_path, monkeypatch
):
    folder, synced, broken = tmp_path / "j", os.fdatasync, threading.Event()
    settled: dict[str, Any] = {}

    def failing(handle):
        if broken.is_set():
            raise OSError(errno.EIO, "Input/output error")
        synced(handle)

    monkeypatch.setattr("trimtab.journal.writing.RETRY_S", 0.01)
    with Journal(folder) as journal:
        journal.append([row("before")])
        monkeypatch.setattr(os, "fdatasync", failing)
        broken.set()
        early(journal, "kept", settled)
        wait_for(lambda: "kept" in settled)
        with pytest.raises(JournalError, match="Input/output error"):
            journal.append([row("refused")])
        early(journal, "kept too", settled)
        wait_for(lambda: "kept too" in settled)
        broken.clear()
        assert journal.append([row("after")]) == 4
    assert window(folder, 0, 4).request_id.tolist() == ["before", "kept", "kept too", "after"]
    with Journal(folder) as journal:
        assert journal.rows == 4


def test_nothing_more_needs_to_come_for_what_is_owed_to_be_written_again(tmp_path, monkeypatch):
    folder, synced, failed = tmp_path / "j", os.fdatasync, []
    settled: dict[str, Any] = {}

    def once(handle):
        if not failed:
            failed.append(handle)
            raise OSError(errno.EIO, "Input/output error")
        synced(handle)

    monkeypatch.setattr("trimtab.journal.writing.RETRY_S", 0.01)
    monkeypatch.setattr(os, "fdatasync", once)
    with Journal(folder) as journal:
        early(journal, "kept", settled)
        wait_for(lambda: end(folder) == 1)
    assert window(folder, 0, 1).request_id.tolist() == ["kept"]


def test_rows_that_a_slow_disk_does_not_sync_are_bounded_though_they_are_acknowledged(tmp_path, monkeypatch):
    synced, go_on = os.fdatasync, threading.Event()
    settled: dict[str, Any] = {}
    with Journal(tmp_path / "j", max_pending_bytes=2000) as journal:
        monkeypatch.setattr(os, "fdatasync", lambda handle: (go_on.wait(20), synced(handle)))
        taken = [not refused(journal, f"r{index}", settled) for index in range(100)]
        go_on.set()
    assert taken == sorted(taken, reverse=True)
    assert 1 < sum(taken) == len(settled) == end(tmp_path / "j") < 100
