"""Rows and labels that are old enough and needed by nothing are deleted, whole Parquet files at a time.

Offsets count on as ever: what is gone is gone from the beginning's side, and a window that reaches into it is refused
with the reason. Only compacted files are deleted, so the writer is not disturbed; it closes its segment with each new
day (`log.py`), so that the oldest rows of a quiet service get there too.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trimtab.journal.compact import compacting
from trimtab.journal.layout import FORGOTTEN, forgotten_below, layout
from trimtab.journal.segments import sync_directory
from trimtab.store import write_atomic

_PARTITION = "date="


@dataclass(frozen=True)
class Forgotten:
    """What was deleted.

    Attributes:
        rows, labels, bytes: how many.
        below: every deleted row, of all times, has an offset below this.
        kept_for_need: rows that are old enough and stay, because something needs them or a row before them.
    """

    rows: int
    labels: int
    bytes: int
    below: int
    kept_for_need: int

    def to_json(self) -> dict[str, int]:
        """Plain dict, JSON-safe."""
        return asdict(self)


@dataclass(frozen=True)
class _File:
    """A Parquet file: how many rows or labels, the UTC day of the newest, and its largest offset."""

    path: Path
    count: int
    day: date
    last: int


def forget(folder: Path, before: date, needed_from: int, today: date | None = None) -> Forgotten:
    """Delete rows and labels of days before a day, as far as they lie below an offset.

    Killed at any point it is finished by the next call; who reads meanwhile reads again.

    Args:
        folder: the journal.
        before: rows of this UTC day and later stay.
        needed_from: rows from this offset on stay, and the labels that were written since it.
        today: what is dated later than this (the clock was wrong) has the age of its file.

    Raises:
        OSError: a file cannot be read or deleted.
    """
    if not folder.is_dir():
        return Forgotten(0, 0, 0, 0, 0)
    with compacting(folder):
        today, found = today or datetime.now(UTC).date(), layout(folder)
        old = [file for path in found.row_files if (file := _rows_of(path, today)).day < before]
        rows = [file for file in old if file.last < needed_from]
        # A window that begins at an offset counts the labels that were written when the journal held so many rows.
        old_labels = [file for path in found.label_files if (file := _labels_of(path, today)).day < before]
        labels = [file for file in old_labels if file.last < needed_from]
        below = max([forgotten_below(folder), *(file.last + 1 for file in rows)])
        if rows:
            write_atomic(folder / FORGOTTEN, json.dumps({"below": below}).encode())  # first: the reason is known then
        size = sum(_delete(file.path) for file in (*rows, *labels))
    return Forgotten(_sum(rows), _sum(labels), size, below, _sum(old) - _sum(rows))


def _rows_of(path: Path, today: date) -> _File:
    offsets = _column(path, "offset")
    day = date.fromisoformat(path.parent.name.removeprefix(_PARTITION))
    return _File(path, len(offsets), _age(day, path, today), _largest(offsets))


def _labels_of(path: Path, today: date) -> _File:
    at, times = _column(path, "at"), _column(path, "time_ns")
    day = datetime.fromtimestamp(max(_largest(times), 0) / 1e9, UTC).date()
    return _File(path, len(at), _age(day, path, today), _largest(at))


def _age(day: date, path: Path, today: date) -> date:
    return day if day <= today else datetime.fromtimestamp(path.stat().st_mtime, UTC).date()


def _column(path: Path, name: str) -> pa.ChunkedArray:
    return pq.read_table(path, columns=[name], partitioning=None)[name]


def _largest(values: pa.ChunkedArray) -> int:
    found = pc.max(values).as_py()
    return -1 if found is None else int(found)


def _delete(path: Path) -> int:
    size = path.stat().st_size
    path.unlink()
    sync_directory(path.parent)
    if path.parent.name.startswith(_PARTITION) and not any(path.parent.iterdir()):
        path.parent.rmdir()
        sync_directory(path.parent.parent)
    return size


def _sum(files: list[_File]) -> int:
    return sum(file.count for file in files)
