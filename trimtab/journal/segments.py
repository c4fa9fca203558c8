"""Numbered segments of the write-ahead log: `wal-00000001.log`, each with the number of rows before it in its head.

The highest number is the active one; all others are closed: synced whole, never written again.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trimtab.errors import StateError
from trimtab.journal.records import LABELS, Record, decode_labels, decode_rows, scan
from trimtab.journal.rows import LabelBlock, RowBlock
from trimtab.store import write_atomic

MAGIC = b"TTWAL1\n\0"
_HEAD = struct.Struct("<8sQI")
HEAD_SIZE = _HEAD.size
_NAME = re.compile(r"wal-(\d{8})\.log")


@dataclass(frozen=True)
class Segment:
    """A segment file and its number."""

    path: Path
    number: int


def list_segments(folder: Path) -> list[Segment]:
    """Segments of a journal, by number."""
    found = [(match, entry) for entry in folder.glob("wal-*.log") if (match := _NAME.fullmatch(entry.name))]
    return sorted((Segment(path, int(match[1])) for match, path in found), key=lambda segment: segment.number)


def create_segment(folder: Path, number: int, rows_before: int) -> Segment:
    """A new segment that holds only its head; whole or absent, also after a power cut."""
    path = folder / f"wal-{number:08d}.log"
    write_atomic(path, _HEAD.pack(MAGIC, rows_before, zlib.crc32(MAGIC + rows_before.to_bytes(8, "little"))))
    sync_directory(folder)
    return Segment(path, number)


def sync_directory(folder: Path) -> None:
    """fsync a folder, so that created, renamed and removed names survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def rows_before(data: bytes | memoryview, where: Path) -> int:
    """Rows in all earlier segments, from the head.

    Raises:
        StateError: the head is damaged.
    """
    if len(data) >= HEAD_SIZE:
        magic, base, crc = _HEAD.unpack_from(data)
        if magic == MAGIC and crc == zlib.crc32(MAGIC + base.to_bytes(8, "little")):
            return int(base)
    raise StateError("is not a journal segment, or its head is damaged", where=str(where), fix=_FIX)


@dataclass(frozen=True)
class Place:
    """A record and how many rows the journal held before it."""

    record: Record
    before: int

    @property
    def is_labels(self) -> bool:
        """Whether it holds labels."""
        return self.record.kind == LABELS

    def rows(self) -> RowBlock:
        """The rows it holds."""
        return decode_rows(self.record, self.before)

    def labels(self) -> LabelBlock:
        """The labels it holds."""
        return decode_labels(self.record, self.before)


def places(data: bytes | memoryview, where: Path) -> Iterator[Place]:
    """Records of a segment in order, up to the first unsound byte."""
    before = rows_before(data, where)
    for record in scan(data, HEAD_SIZE):
        yield Place(record, before)
        if record.kind != LABELS:
            before += record.count


def check_whole(found: list[Place], size: int, where: Path) -> None:
    """See that records fill the first `size` bytes of a file, which were synced once.

    Raises:
        StateError: a synced record is damaged; nothing is cut or skipped.
    """
    end = found[-1].record.end if found else HEAD_SIZE
    if end < size:
        raise StateError(f"a durable record at byte {end} is damaged", where=str(where), fix=_FIX)


_FIX = "the disk changed what was synced: restore this file from a backup, or move it away to give up its rows"
