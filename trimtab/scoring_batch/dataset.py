"""The rows of a Parquet file or folder: named by file, row group and row, read in batches, divided into parts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trimtab.errors import DataError

BUFFER = 2**20  # bytes read at once of a column; without it pyarrow reads the column's whole row group


@dataclass(frozen=True)
class Source:
    """One file.

    Attributes:
        name: relative to the folder. size: bytes. changed_ns: when it was last written.
        footer: SHA-256 (hex) of its footer, which says where each column's values lie and what their ranges are.
        groups: rows of each row group.
    """

    path: Path
    name: str
    size: int
    changed_ns: int
    footer: str
    groups: tuple[int, ...]

    def said(self) -> list[Any]:
        """What identifies its contents without reading all of them, JSON-safe."""
        return [self.name, self.size, self.changed_ns, self.footer]


@dataclass(frozen=True)
class Span:
    """Rows start ≤ row < stop of one row group of one file; `first` is how many rows of the dataset come before."""

    source: int
    group: int
    start: int
    stop: int
    first: int


Part = tuple[Span, ...]


@dataclass(frozen=True)
class Dataset:
    """Files of one schema, in the order in which they are read."""

    schema: pa.Schema
    sources: tuple[Source, ...]

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(sum(source.groups) for source in self.sources)

    def place(self, span: Span, row: int) -> str:
        """A row in words; `row` counts in its row group."""
        return f"{self.sources[span.source].name}, row group {span.group}, row {row}"


def open_dataset(path: Path) -> Dataset:
    """Read the footers of a file, or of every *.parquet below a folder.

    Raises:
        DataError: there is none, one is not Parquet, or has other columns than the first.
    """
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    files = [file for file in files if not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)]
    if not files:
        raise DataError("holds no *.parquet file", where=str(path), fix="name a Parquet file, or a folder of them")
    opened = [_open(file, path) for file in files]
    first, schema = opened[0][0].name, opened[0][1]
    for source, other in opened[1:]:
        if not other.equals(schema):
            columns, others = ({f"{field.name}: {field.type}" for field in fields} for fields in (schema, other))
            differing = sorted(columns ^ others)
            raise DataError(
                f"has other columns than {first}: {', '.join(differing[:6]) or 'in another order'}",
                where=str(source.path),
                fix="score files of one schema at a time",
            )
    return Dataset(schema, tuple(source for source, _ in opened))


def plan(dataset: Dataset, part_rows: int) -> list[Part]:
    """The dataset in parts of at most so many rows: each is written down whole, or done again after a kill."""
    parts: list[Part] = []
    open_part: list[Span] = []
    room, first = part_rows, 0
    for index, source in enumerate(dataset.sources):
        for group, rows in enumerate(source.groups):
            start = 0
            while start < rows:
                taken = min(rows - start, room)
                open_part.append(Span(index, group, start, start + taken, first))
                start, first, room = start + taken, first + taken, room - taken
                if room == 0:
                    parts.append(tuple(open_part))
                    open_part, room = [], part_rows
    return [*parts, tuple(open_part)] if open_part else parts


class Reader:
    """Reads spans one after another; a row group is decoded once where its spans follow each other.

    Args:
        columns: what is read of each row. batch_rows: most rows at once.
    """

    def __init__(self, dataset: Dataset, columns: Sequence[str], batch_rows: int) -> None:
        self._dataset, self._columns, self._batch_rows = dataset, list(columns), batch_rows
        self._at: tuple[int, int] | None = None
        self._row = 0
        self._rest: pa.RecordBatch | None = None
        self._batches: Iterator[pa.RecordBatch] = iter(())

    def read(self, span: Span) -> Iterator[tuple[int, pa.RecordBatch]]:
        """The rows of a span in batches, each with the place of its first row in the row group.

        Raises:
            DataError: the file is damaged, or shorter than its footer says.
        """
        if self._at != (span.source, span.group) or self._row > span.start:
            self._open(span)
        while self._row < span.stop:
            batch = self._rest if self._rest is not None else self._next(span)
            low, high = max(span.start - self._row, 0), min(span.stop - self._row, len(batch))
            first = self._row + low
            self._rest = batch.slice(high) if high < len(batch) else None
            self._row += high
            if low < high:
                yield first, batch.slice(low, high - low)

    def _open(self, span: Span) -> None:
        source = self._dataset.sources[span.source]
        file = pq.ParquetFile(source.path, buffer_size=BUFFER, pre_buffer=False)
        self._batches = file.iter_batches(self._batch_rows, row_groups=[span.group], columns=self._columns)
        self._at, self._row, self._rest = (span.source, span.group), 0, None

    def _next(self, span: Span) -> pa.RecordBatch:
        try:
            batch = next(self._batches, None)
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(span, f"cannot be read: {error}") from None
        if batch is None:
            raise self._damaged(span, f"ends after {self._row} rows, before its footer says")
        return batch

    def _damaged(self, span: Span, what: str) -> DataError:
        source = self._dataset.sources[span.source]
        return DataError(what, where=f"{source.path}, row group {span.group}", fix="write the file again")


def _open(file: Path, root: Path) -> tuple[Source, pa.Schema]:
    try:
        with pq.ParquetFile(file) as opened:
            schema, metadata = opened.schema_arrow.remove_metadata(), opened.metadata
            groups = tuple(metadata.row_group(index).num_rows for index in range(metadata.num_row_groups))
        found = file.stat()
        name = file.relative_to(root).as_posix() if root.is_dir() else file.name
        return Source(file, name, found.st_size, found.st_mtime_ns, _footer(file), groups), schema
    except FileNotFoundError:
        raise DataError("does not exist", where=str(file), fix="name a Parquet file, or a folder of them") from None
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot be read as Parquet: {error}", where=str(file), fix="write the file again") from None


def _footer(file: Path) -> str:
    """The last 8 bytes are the footer's length and "PAR1" (the format's specification)."""
    with file.open("rb") as stream:
        stream.seek(-8, 2)
        length = int.from_bytes(stream.read(4), "little")
        stream.seek(-8 - length, 2)
        return hashlib.sha256(stream.read(length)).hexdigest()
