"""Reading a journal from another process than the one that writes it: how far it goes, and a window of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from trimtab.errors import StateError
from trimtab.journal.layout import Layout, forgotten_below, layout
from trimtab.journal.mark import Mark, read_mark
from trimtab.journal.rows import LabelBlock, RowBlock
from trimtab.journal.segments import Place, check_whole, places, rows_before
from trimtab.journal.window import Window, build

_TRIES = 5
Result = TypeVar("Result")


def end(folder: Path) -> int:
    """Rows in the journal, durable ones only; 0 where there is none yet.

    Raises:
        StateError: the journal is damaged.
    """
    mark = read_mark(folder)
    return mark.rows if mark is not None else _again(lambda: _end_by_scan(folder))


def window(folder: Path, lo: int, hi: int, labels_as_of_ns: int | None = None) -> Window:
    """The rows lo ≤ offset < hi with their labels, wherever they lie by now.

    Args:
        folder: the journal.
        lo, hi: offsets, 0 ≤ lo ≤ hi ≤ `end(folder)`.
        labels_as_of_ns: labels that arrived after this moment do not count; the same arguments then always give the
            same window. None: all that have arrived.

    Raises:
        ValueError: lo or hi is outside the journal. StateError: the journal is damaged or lacks rows.
    """
    last = end(folder)
    if not 0 <= lo <= hi <= last:
        raise ValueError(f"window [{lo}, {hi}) is not inside the journal's [0, {last})")
    return _again(lambda: _window(folder, lo, hi, labels_as_of_ns))


def _window(folder: Path, lo: int, hi: int, as_of_ns: int | None) -> Window:
    mark, files = read_mark(folder), layout(folder)
    in_logs = list(_places(files, mark))
    blocks = [*_compacted_rows(files, lo, hi), *_logged_rows(in_logs, lo, hi)]
    blocks.sort(key=lambda block: int(block.offset[0]))
    found = sum(map(len, blocks))
    if found != hi - lo:
        if lo < (below := forgotten_below(folder)):
            raise StateError(
                f"{hi - lo - found} of the rows from {lo} to {hi} were deleted because they were old",
                where=str(folder),
                fix=f"rows below offset {below} are gone (serving.journal.retention_days)",
            )
        raise StateError(
            f"holds {found} of the {hi - lo} rows from {lo} to {hi}",
            where=str(folder),
            fix="a segment or Parquet file was removed: put it back from a backup",
        )
    request_ids = sorted({value for block in blocks for value in block.request_id})
    return build(blocks, _labels(files, in_logs, lo, request_ids), lo, hi, as_of_ns)


def _places(files: Layout, mark: Mark | None) -> Iterator[Place]:
    """Durable records of the write-ahead files, in order."""
    for closed in files.closed:
        if mark is None or closed.segment.number != mark.segment:
            yield from closed.whole()
        else:  # closed since the mark was read
            yield from _up_to(closed.segment.path, mark.size)
    if files.active is not None and mark is None:
        yield from _up_to(files.active.path, None)
    elif files.active is not None and mark is not None and files.active.number == mark.segment:
        yield from _up_to(files.active.path, mark.size)


def _up_to(path: Path, size: int | None) -> Iterator[Place]:
    data = path.read_bytes()
    found = list(places(data if size is None else data[:size], path))
    if size is not None:
        check_whole(found, size, path)
    yield from found


def _logged_rows(found: Iterable[Place], lo: int, hi: int) -> Iterator[RowBlock]:
    for place in found:
        if not place.is_labels and place.before < hi and place.before + place.record.count > lo:
            block = place.rows()
            keep = (block.offset >= lo) & (block.offset < hi)
            yield block if keep.all() else block.take(keep.nonzero()[0])


def _compacted_rows(files: Layout, lo: int, hi: int) -> Iterator[RowBlock]:
    if files.row_files and lo < hi:
        from trimtab.journal.parquet import read_rows  # only a compacted journal needs the Parquet library

        for path in files.row_files:
            yield from read_rows(path, lo, hi)


def _labels(files: Layout, in_logs: Iterable[Place], at: int, request_ids: list[str]) -> Iterator[LabelBlock]:
    """Labels that can be for rows from offset `at` on, in order of arrival: compacted segments are the older ones."""
    if files.label_files:
        from trimtab.journal.parquet import read_labels

        for path in files.label_files:
            yield read_labels(path, at, request_ids)
    for place in in_logs:
        if place.is_labels and place.before >= at:
            yield place.labels()


def _end_by_scan(folder: Path) -> int:
    active = layout(folder).active
    if active is None:
        return 0
    data = active.path.read_bytes()
    counts = (place.record.count for place in places(data, active.path) if not place.is_labels)
    return rows_before(data, active.path) + sum(counts)


def _again(read: Callable[[], Result]) -> Result:
    """Read once more when a segment was compacted between listing and opening it."""
    for _ in range(_TRIES - 1):
        try:
            return read()
        except FileNotFoundError:
            continue
    return read()
