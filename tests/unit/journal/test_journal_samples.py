"""The file of samples: durable, bounded, and whole after a kill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trimtab.journal.samples import FILE, OLD, Sample, SampleWriter, read_samples

ONE = Sample(
    at_ns=1, since_ns=0, host="here", pid=7, started_s=0.5, version="3", rss=1, cpu=0.1, threads=2, files=3,
    disk_free=4, queue=5, counts={"ok": 6}, gpu={"memory": 7.0},
)  # fmt: skip


def test_samples_come_back_by_time(tmp_path: Path) -> None:
    writer = SampleWriter(tmp_path)
    for at in (10, 20, 30):
        writer.append(replace(ONE, at_ns=at))
    writer.close()

    assert [sample.at_ns for sample in read_samples(tmp_path, 10, 30)] == [20, 30]
    assert read_samples(tmp_path, 0, 10) == [replace(ONE, at_ns=10)]
    assert read_samples(tmp_path / "nowhere", 0, 10) == []


def test_a_line_that_a_kill_cut_short_costs_that_line_alone(tmp_path: Path) -> None:
    writer = SampleWriter(tmp_path)
    writer.append(replace(ONE, at_ns=10))
    writer.close()
    with (tmp_path / FILE).open("ab") as stream:
        stream.write(b'{"at_ns": 20, "si')

    writer = SampleWriter(tmp_path)
    writer.append(replace(ONE, at_ns=30))
    writer.close()

    assert [sample.at_ns for sample in read_samples(tmp_path, 0, 99)] == [10, 30]


def test_two_files_are_all_there_ever_is(tmp_path: Path) -> None:
    writer = SampleWriter(tmp_path, limit=1000)
    for at in range(1, 41):
        writer.append(replace(ONE, at_ns=at))
    writer.close()

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([FILE, OLD])
    assert all(path.stat().st_size < 1400 for path in tmp_path.iterdir())
    kept = [sample.at_ns for sample in read_samples(tmp_path, 0, 99)]
    assert kept == list(range(kept[0], 41))
