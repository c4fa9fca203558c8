"""The active segment: write, sync, take back what could not be synced, begin the next one when it is large."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from trimtab.errors import StateError
from trimtab.journal.mark import Mark, MarkWriter, read_mark
from trimtab.journal.records import Part
from trimtab.journal.segments import (
    HEAD_SIZE,
    Place,
    Segment,
    check_whole,
    create_segment,
    list_segments,
    places,
    rows_before,
)

_DAY_S = 86_400
# Zeros are written this far ahead of small records: a sync of what lies in a file already waits for the disk once, one
# that makes the file longer waits for the file system's own journal too. Of large ones writing twice costs more.
AHEAD, SMALL = 2**21, 2**16
_ZEROS = bytes(AHEAD)
_PARTS = 1000  # of one call; Linux takes 1,024
_logger = logging.getLogger(__name__)


class SyncFailed(OSError):
    """What was written before is not durable, and must be written again (`Log.start_over`)."""


class Log:
    """The end of the write-ahead log. Not thread-safe but for `sync`: one process owns it.

    Args:
        folder: the journal.
        segment_bytes: a segment at least this large, or begun on another UTC day, is closed and the next one begun.
        visit: called at opening with each record of the active segment.
    """

    def __init__(self, folder: Path, segment_bytes: int, visit: Callable[[Place], None]) -> None:
        self._folder, self._segment_bytes = folder, segment_bytes
        self._mark = MarkWriter(folder)
        self._handle = -1
        self._torn = False  # a write failed, and may have left a part
        self._length = 0  # of the file, with the zeros behind what is written
        self._end = self._synced = (0, 0)  # bytes of the active segment, rows of all
        self._day = 0
        self._turning = threading.Lock()  # a file must not be closed while it is synced
        segments, mark = list_segments(folder), read_mark(folder)
        if mark is not None and (not segments or segments[-1].number < mark.segment):
            raise StateError(
                f"segment {mark.segment} is missing", where=str(folder), fix="put the file back from a backup"
            )
        if segments:
            self._recover(segments[-1], mark, visit)
        else:
            self._begin(create_segment(folder, 1, 0), 0)

    def write(self, parts: Sequence[Part], rows: int) -> None:
        """Write records; on an error nothing of them is left in the log.

        Args:
            parts: whole records, one after the other. rows: how many rows they hold.

        Raises:
            OSError: the disk is full, unwritable or broken. SyncFailed: what was written before could not be synced.
        """
        if self._torn:
            os.ftruncate(self._handle, self._size)
            self._length, self._torn = self._size, False
        self.turn()
        self._torn = True
        end = self._write(parts)
        self._torn = False
        self._end = (end, self.rows + rows)

    def sync(self) -> None:
        """Make durable what was written before; on any thread, while another one writes.

        Raises:
            OSError: it is not durable; `start_over`.
        """
        with self._turning:
            end = self._end
            os.fdatasync(self._handle)
            self._publish(end)

    def start_over(self) -> None:
        """Cut off what could not be synced, and go on in a fresh segment.

        After a failed fsync the kernel may drop its pages and call the next fsync a success.

        Raises:
            OSError: that is not possible either.
        """
        with self._turning:
            self._end, self._torn = self._synced, False
            self._trim()
            self._begin(create_segment(self._folder, self._segment.number + 1, self.rows), self.rows)

    def turn(self) -> None:
        """Begin the next segment if this one is large or of another day: only closed ones are compacted, and only what
        is compacted can be deleted when it is old.

        Raises:
            OSError: as for `write`.
        """
        if self._size == HEAD_SIZE:
            self._day = _today()
        elif self._size >= self._segment_bytes or self._day != _today():
            with self._turning:
                self._trim()
                self._begin(create_segment(self._folder, self._segment.number + 1, self.rows), self.rows)

    def close(self) -> None:
        """Close the files; everything that was synced is durable already."""
        with contextlib.suppress(OSError):  # opening the journal cuts such a tail again
            self._trim()
        os.close(self._handle)
        self._mark.close()

    @property
    def rows(self) -> int:
        """That were written, in all segments."""
        return self._end[1]

    @property
    def _size(self) -> int:
        return self._end[0]

    def _write(self, parts: Sequence[Part]) -> int:
        """Where the file is written to afterwards."""
        at = self._size
        for first in range(0, len(parts), _PARTS):
            some = parts[first : first + _PARTS]
            size = sum(map(len, some))
            written = os.pwritev(self._handle, some, at)
            rest = memoryview(b"".join(some) if written < size else b"")[written:]
            while rest:  # a signal, or a disk that is about to be full
                rest = rest[os.pwrite(self._handle, rest, at + size - len(rest)) :]
            at += size
        if at > self._length and at - self._size <= SMALL:
            with contextlib.suppress(OSError):  # a full disk: what counts is written, and the next records will tell
                os.pwrite(self._handle, _ZEROS, at)
            self._length = os.fstat(self._handle).st_size
        self._length = max(self._length, at)
        return at

    def _trim(self) -> None:
        """Cut the file behind its last record, and sync it; a closed segment is records to its end."""
        os.ftruncate(self._handle, self._size)
        self._length = self._size
        try:
            os.fsync(self._handle)
        except OSError as error:
            raise SyncFailed(*error.args) from error

    def _recover(self, segment: Segment, mark: Mark | None, visit: Callable[[Place], None]) -> None:
        data = segment.path.read_bytes()
        found = list(places(data, segment.path))
        if mark is not None and mark.segment == segment.number:
            check_whole(found, mark.size, segment.path)
        self._open(segment)
        self._day = int(segment.path.stat().st_mtime // _DAY_S)
        rows = rows_before(data, segment.path) + sum(0 if place.is_labels else place.record.count for place in found)
        self._end = (found[-1].record.end if found else HEAD_SIZE, rows)
        unfinished = len(data[self._size :].rstrip(b"\0"))
        if unfinished:
            _logger.warning("journal: cut %d bytes of an unfinished write", unfinished)
        self._trim()  # and sync: records of the last moment before a kill may be written but not synced
        for place in found:
            visit(place)
        self._publish(self._end)

    def _begin(self, segment: Segment, rows: int) -> None:
        self._open(segment)
        self._end, self._length, self._day = (HEAD_SIZE, rows), HEAD_SIZE, _today()
        self._publish(self._end)

    def _open(self, segment: Segment) -> None:
        handle = os.open(segment.path, os.O_WRONLY | os.O_CLOEXEC)
        if self._handle >= 0:
            os.close(self._handle)
        self._handle, self._segment = handle, segment

    def _publish(self, end: tuple[int, int]) -> None:
        """What lies before an end is synced: readers may see it."""
        self._synced = end
        self._mark.write(Mark(self._segment.number, *end))


def _today() -> int:
    """Days since the epoch, UTC."""
    return int(time.time() // _DAY_S)
