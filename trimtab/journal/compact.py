"""Closed segments become Parquet files, partitioned by UTC day; the write-ahead file goes last.

A crash at any point is harmless: as long as the write-ahead file exists it is what readers use, and the next run
writes the same Parquet files again over whatever is there.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trimtab.journal.layout import LABELS_FOLDER, ROWS_FOLDER, Closed, layout
from trimtab.journal.parquet import labels_table, rows_table
from trimtab.journal.rows import RowBlock
from trimtab.journal.segments import sync_directory
from trimtab.store import os_lock

_DAY_NS = 86_400 * 10**9
_DRAFT = ".draft-"


def compact(folder: Path) -> int:
    """Compact every closed segment; the one being written is left alone, so this may run beside the writer.

    Returns:
        Number of segments compacted.

    Raises:
        StateError: a segment is damaged; it is left as it is.
    """
    if not folder.is_dir():
        return 0
    with compacting(folder):
        closed = layout(folder).closed
        for segment in closed:
            _compact(folder, segment)
        return len(closed)


@contextlib.contextmanager
def compacting(folder: Path) -> Iterator[None]:
    """Nobody else compacts this journal or deletes from it meanwhile."""
    with os_lock(folder / "compact.lock", wait=True, what="compaction of this journal"):
        yield


def _compact(folder: Path, closed: Closed) -> None:
    found = closed.whole()
    name = f"segment-{closed.segment.number:08d}.parquet"
    labels = [place.labels() for place in found if place.is_labels]
    if labels:
        _write(labels_table(labels), folder / LABELS_FOLDER, name)
    for day, blocks in _by_day([place.rows() for place in found if not place.is_labels]).items():
        _write(rows_table(blocks), folder / ROWS_FOLDER / f"date={day}", name)
    closed.segment.path.unlink()
    sync_directory(folder)


def _by_day(blocks: list[RowBlock]) -> dict[datetime.date, list[RowBlock]]:
    days: dict[datetime.date, list[RowBlock]] = defaultdict(list)
    for block in blocks:
        number = block.time_ns // _DAY_NS
        for day in np.unique(number):
            rows = block if len(block) == 1 else block.take(np.flatnonzero(number == day))
            days[datetime.date(1970, 1, 1) + datetime.timedelta(days=int(day))].append(rows)
    return days


def _write(table: pa.Table, folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{_DRAFT}{name}"
    pq.write_table(table, draft, compression="zstd", row_group_size=16_384)
    with draft.open("rb") as stream:
        os.fsync(stream.fileno())
    os.replace(draft, folder / name)
    for changed in (folder, folder.parent, folder.parent.parent):
        sync_directory(changed)
