"""Windows: labels joined by id, the same answer before and after compaction, damage told."""

from __future__ import annotations

import datetime
import os
import threading

import numpy as np
import pytest
from test_journal_wal import row

from trimtab.errors import StateError
from trimtab.journal.compact import compact
from trimtab.journal.layout import layout
from trimtab.journal.reader import end, labelled, window
from trimtab.journal.wal import Journal

DAY_NS = 86_400 * 10**9
NOON = 1_700_000_000_000_000_000


def test_late_labels_join_by_request_id_not_by_order_of_arrival(tmp_path):
    with Journal(tmp_path / "j") as journal:
        journal.append([row("1"), row("2"), row("3")])
        assert journal.label("3", 0, 30, 5)
        assert journal.label("1", 0, 10, 6)
        assert not journal.label("9", 0, 90, 7)
        assert not journal.label("1", 1, 90, 8)
    found = window(tmp_path / "j", 0, 3)
    assert found.label.tolist() == [10, -1, 30]
    assert found.labelled == 2
    assert found.coverage == pytest.approx(2 / 3)
    assert found.unknown_labels == 2
    assert found.duplicates == 0


def test_the_last_of_several_labels_counts_and_the_others_are_counted(tmp_path):
    with Journal(tmp_path / "j") as journal:
        journal.append([row("a"), row("b")])
        for label in (1, 2, 3):
            journal.label("a", 0, label, label)
    found = window(tmp_path / "j", 0, 2)
    assert found.label.tolist() == [3, -1]
    assert found.duplicates == 2
    assert found.labelled == 1


def test_labels_as_of_a_moment_leave_out_later_ones(tmp_path):
    with Journal(tmp_path / "j") as journal:
        journal.append([row("a"), row("b")])
        journal.label("a", 0, 1, 100)
        journal.label("a", 0, 2, 200)
        journal.label("b", 0, 1, 300)
        journal.label("nobody", 0, 1, 300)
    early = window(tmp_path / "j", 0, 2, labels_as_of_ns=200)
    assert early.label.tolist() == [2, -1]
    assert (early.duplicates, early.unknown_labels) == (1, 0)
    assert window(tmp_path / "j", 0, 2, labels_as_of_ns=99).labelled == 0


def test_when_labels_came_is_part_of_the_window_and_its_moment_gives_the_same_window_again(tmp_path):
    second = 10**9
    with Journal(tmp_path / "j") as journal:
        journal.append([row("a", time_ns=0), row("b", time_ns=second, predicted=0), row("c", time_ns=9 * second)])
        journal.label("a", 0, 1, 2 * second)
        journal.label("c", 0, 1, 3 * second)  # before its answer's time: no delay
        journal.label("nobody", 0, 1, 4 * second)
        found = window(tmp_path / "j", 0, 3)
        assert found.label_time_ns.tolist() == [2 * second, -1, 3 * second]
        assert found.label_delay_s.tolist() == [2.0, 0.0]
        assert found.coverage_by_predicted == {0: (1, 0), 1: (2, 2)}
        assert found.labels_as_of_ns == 4 * second
        journal.label("a", 0, 0, 5 * second)
        journal.label("b", 0, 0, 5 * second)
        journal.label("nobody", 1, 1, 6 * second)
    same(window(tmp_path / "j", 0, 3, labels_as_of_ns=found.labels_as_of_ns), found)
    assert window(tmp_path / "j", 0, 3).labels_as_of_ns == 6 * second
    assert window(tmp_path / "j", 0, 3, labels_as_of_ns=0).labels_as_of_ns == 0


def test_a_label_is_known_after_reopening_and_after_compaction(tmp_path):
    with Journal(tmp_path / "j", segment_bytes=300) as journal:
        for index in range(6):
            journal.append([row(f"r{index}")])
    compact(tmp_path / "j")
    with Journal(tmp_path / "j") as journal:
        assert [journal.label(f"r{index}", 0, 1, 1) for index in range(7)] == [True] * 6 + [False]


def test_a_window_outside_the_journal_is_refused(tmp_path):
    with Journal(tmp_path / "j") as journal:
        journal.append([row("a")])
    for lo, hi in ((0, 2), (-1, 1), (1, 0)):
        with pytest.raises(ValueError, match="not inside"):
            window(tmp_path / "j", lo, hi)


def test_no_journal_yet_has_no_rows(tmp_path):
    assert end(tmp_path / "absent") == 0
    assert len(window(tmp_path / "absent", 0, 0)) == 0
    assert compact(tmp_path / "absent") == 0


def test_rows_without_inputs_are_marked(tmp_path):
    with Journal(tmp_path / "j") as journal:
        journal.append([row("a"), row("b", inputs=None), row("c", inputs={"input": np.ones((3,), np.float32)})])
        journal.append([row("d", value=2.0)])
    found = window(tmp_path / "j", 0, 4)
    assert found.has_inputs.tolist() == [True, False, False, True]
    assert np.isnan(found.inputs["input"][1]).all()
    assert found.inputs["input"][3].tolist() == [[[2.0, 2.0], [2.0, 2.0]]]
    assert window(tmp_path / "j", 1, 2).inputs is None


def sequence(request: str, length: int):
    return row(request, inputs={"input": np.full(length, length, np.float32)})


@pytest.mark.parametrize(
    ("lengths", "taken"),
    [
        ([3, 5, 3, 3, 5, 4], 3),  # not the last one's
        ([3, 5, 3, 5], 5),  # of equals the later one
        ([5, 5, 3], 5),
    ],
)
def test_of_rows_in_several_sizes_a_window_has_those_of_the_commonest(tmp_path, lengths, taken):
    with Journal(tmp_path / "j") as journal:
        journal.append([sequence(str(place), length) for place, length in enumerate(lengths)])
    found = window(tmp_path / "j", 0, len(lengths))
    assert found.has_inputs.tolist() == [length == taken for length in lengths]
    assert found.inputs["input"].shape == (len(lengths), taken)
    assert (found.inputs["input"][found.has_inputs] == taken).all()
    compact(tmp_path / "j")
    same(found, window(tmp_path / "j", 0, len(lengths)))


def test_another_kind_of_input_than_the_last_is_not_taken_however_many_there_are(tmp_path):
    with Journal(tmp_path / "j") as journal:
        journal.append([*(row(str(place)) for place in range(3)), sequence("last", 3)])
    assert window(tmp_path / "j", 0, 4).has_inputs.tolist() == [False, False, False, True]


def mixed_rows(count: int) -> list:
    """Two inputs of integer and bool kind, two versions of other class counts, failures, three days."""
    rows = []
    for index in range(count):
        old = index % 5 == 0
        failed = index % 7 == 3
        rows.append(
            row(
                f"r{index // 2}",
                index % 2,
                time_ns=NOON + (index // 10) * DAY_NS,
                version="1" if old else "2",
                inputs={"ids": np.arange(3) + index, "mask": np.array([True, index % 2 == 0])} if index % 6 else None,
                output=() if failed else ([0.5, 0.5] if old else [0.2, 0.2, 0.6]),
                predicted=-1 if failed else 1,
                status=500 if failed else 200,
                error="RuntimeError" if failed else None,
            )
        )
    return rows


def same(left, right) -> None:
    for name in left.__dataclass_fields__:
        one, two = getattr(left, name), getattr(right, name)
        if name == "inputs" and two is not None:
            assert one.keys() == two.keys()
            for key in one:
                np.testing.assert_array_equal(one[key], two[key])
                assert one[key].dtype == two[key].dtype
        elif isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, two)
            assert one.dtype == two.dtype
        else:
            assert one == two, name


def test_windows_are_the_same_before_and_after_compaction(tmp_path):
    folder = tmp_path / "j"
    with Journal(folder, segment_bytes=1500) as journal:
        for index in range(0, 40, 4):
            journal.append(mixed_rows(40)[index : index + 4])
            journal.label(f"r{index // 2}", 0, index % 3, index)
            journal.label("nobody", 0, 1, index)
        spans = [(0, 40), (7, 23), (39, 40), (12, 12)]
        before = [window(folder, lo, hi) for lo, hi in spans]
        counts = labelled(folder, spans)
        assert counts == [one.labelled for one in before]
        count = compact(folder)
        assert count == len(list(folder.glob("labels/*.parquet"))) > 1
        assert len(layout(folder).closed) == 0
        for (lo, hi), old in zip(spans, before, strict=True):
            same(window(folder, lo, hi), old)
        assert labelled(folder, spans) == counts
        assert labelled(folder, []) == []
        assert journal.append([row("after")]) == 41
    days = {path.name for path in (folder / "rows").iterdir()}
    first = datetime.datetime.fromtimestamp(NOON / 1e9, datetime.UTC).date()
    assert f"date={first}" in days
    assert len(days) >= 3


def test_compaction_leaves_the_segment_being_written(tmp_path):
    with Journal(tmp_path / "j") as journal:
        journal.append([row("a")])
        assert compact(tmp_path / "j") == 0
        assert journal.append([row("b")]) == 2


@pytest.mark.parametrize("crash", ["replace", "unlink"])
def test_a_crash_during_compaction_is_harmless(tmp_path, monkeypatch, crash):
    folder = tmp_path / "j"
    with Journal(folder, segment_bytes=1500) as journal:
        for index in range(0, 20, 4):
            journal.append(mixed_rows(20)[index : index + 4])
            journal.label(f"r{index // 2}", 0, 1, 1)
    before = window(folder, 0, 20)

    class Killed(BaseException):
        pass

    def dies(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dies) if crash == "replace" else patch.setattr("pathlib.Path.unlink", dies)
        with pytest.raises(Killed):
            compact(folder)
    same(window(folder, 0, 20), before)
    assert compact(folder) > 0
    same(window(folder, 0, 20), before)
    with Journal(folder) as journal:
        assert journal.rows == 20


def test_a_removed_parquet_file_is_told(tmp_path):
    folder = tmp_path / "j"
    with Journal(folder, segment_bytes=300) as journal:
        for index in range(6):
            journal.append([row(f"r{index}")])
    compact(folder)
    next((folder / "rows").glob("*/*.parquet")).unlink()
    with pytest.raises(StateError, match="holds 5 of the 6 rows"):
        window(folder, 0, 6)


def test_reading_beside_writing_and_compacting_always_sees_whole_windows(tmp_path):
    folder, stop, faults = tmp_path / "j", threading.Event(), []

    def read():
        while not stop.is_set():
            try:
                last = end(folder)
                found = window(folder, 0, last)
                assert found.request_id.tolist() == [f"r{index}" for index in range(last)]
            except BaseException as error:
                faults.append(error)
                return

    with Journal(folder, segment_bytes=2000) as journal:
        reader = threading.Thread(target=read)
        reader.start()
        for index in range(150):
            journal.append([row(f"r{index}")])
            if index % 30 == 29:
                compact(folder)
        stop.set()
        reader.join(30)
    assert not faults
    assert end(folder) == 150


def test_what_stands_in_an_inputs_place_survives_compaction_as_it_was_written(tmp_path):
    folder = tmp_path / "j"
    shares = np.array([[1 / 3, 0.1, 2 / 7, 1 / 3072, 0.5]] * 2)
    inputs = {"descriptors:image": shares[0], "hash:user": np.int64(-5), "redacted:name": np.empty(0, np.int64)}
    with Journal(folder, segment_bytes=64) as journal:
        journal.append([row("a", index, inputs=inputs) for index in range(2)])
        journal.append([row("b")])
        before = window(folder, 0, 2)
        assert compact(folder) == 1
        same(window(folder, 0, 2), before)
    assert before.inputs["descriptors:image"].dtype == np.float64
    np.testing.assert_array_equal(before.inputs["descriptors:image"], shares)
    assert before.inputs["hash:user"].tolist() == [-5, -5]
    assert before.inputs["redacted:name"].shape == (2, 0)
