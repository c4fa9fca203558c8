"""The journal as its one process sees it: callers on any thread append; `writing` has the threads that write and sync.

Nobody is told of his rows before the sync that covers them returned, but who asks to be told when they are written:
those survive the end of this process, and a power cut some 50 ms later.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from functools import partial
from pathlib import Path
from typing import Any

from trimtab.errors import Conflict, StateError
from trimtab.journal.entries import Entry, JournalError, Settle
from trimtab.journal.exchanges import Exchange
from trimtab.journal.known import KnownRows
from trimtab.journal.log import Log
from trimtab.journal.records import encode_labels, encode_rows
from trimtab.journal.rows import LabelRow, Row
from trimtab.journal.segments import Place, sync_directory
from trimtab.journal.writing import Writer

__all__ = ["Journal", "JournalError"]


class Journal:
    """The journal of one release name, opened for writing. Thread-safe; one process at a time.

    Args:
        folder: created if absent.
        segment_bytes: size at which a segment is closed and may be compacted.
        max_pending_bytes: what is not yet synced beyond this is refused at once.
        idle_s: after so long without an append a segment of another UTC day is closed.

    Raises:
        Conflict: another process has it open. StateError: it cannot be written, or synced records are damaged.
    """

    def __init__(
        self, folder: Path, *, segment_bytes: int = 2**24, max_pending_bytes: int = 2**26, idle_s: float = 600.0
    ) -> None:
        self.folder = folder
        self._closed, self._closing = False, threading.Lock()
        self._known = KnownRows()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            sync_directory(folder.parent)
            self._lock = lock_writer(folder)
            try:
                _load_closed(folder, self._known)
                self._log = Log(folder, segment_bytes, self._remember)
            except BaseException:
                os.close(self._lock)
                raise
        except OSError as error:
            raise StateError(
                f"the journal cannot be opened ({error.strerror})",
                where=str(folder),
                fix="free space on its disk, or mend its permissions",
            ) from None
        self._writer = Writer(self._log, self._known, max_pending_bytes, idle_s)

    @property
    def rows(self) -> int:
        """Rows in the journal."""
        return self._log.rows

    def holds(self, request_id: str, row: int) -> bool:
        """Whether a row is in the journal; by its 64-bit hash (see `KnownRows`)."""
        return (request_id, row) in self._known

    def append(self, rows: Sequence[Row]) -> int:
        """Write rows and return when they are durable.

        Returns:
            Number of rows in the journal after them.

        Raises:
            JournalError: they are not in the journal, and will not be.
        """
        return self.submit(rows).result()

    def submit(self, rows: Sequence[Row]) -> Future[int]:
        """`append` that does not wait; its result or error is the future's.

        Raises:
            JournalError: too much is waiting already, or the journal is closed.
        """
        data, future = encode_rows(rows), Future[int]()
        ids, indices = [row.request_id for row in rows], [row.row for row in rows]
        self._writer.give(Entry(partial(_settle, future), len(data), data, request_ids=ids, rows=indices))
        return future

    def submit_exchange(self, exchange: Exchange, settle: Settle, *, synced: bool = True, wake: bool = True) -> None:
        """Write the rows of a request.

        Args:
            settle: called on a thread of the writer's when they are durable, with the number of rows in the journal, or
                with a `JournalError` where they are not in the journal and will not be. It must be quick.
            synced: False: told when they survive the end of this process; they are synced soon after.
            wake: False: more may follow, and `write` or `wake` surely does.

        Raises:
            JournalError: as `submit`.
        """
        ids, indices = [exchange.request_id] * exchange.count, range(exchange.count)
        entry = Entry(settle, exchange.nbytes, exchange=exchange, request_ids=ids, rows=indices, early=not synced)
        self._writer.give(entry, wake=wake)

    def write(self) -> None:
        """Write on this thread what was submitted without waking anybody, unless another thread is writing."""
        self._writer.write()

    def wake(self) -> None:
        """Have it written by the journal's own thread."""
        self._writer.wake()

    def label(self, request_id: str, row: int, label: int, time_ns: int) -> bool:
        """Write the true class of a row and return when it is durable; the last one for a row counts.

        Returns:
            Whether the journal holds that row. A label for an unknown row is kept and counted as such.

        Raises:
            JournalError: it was not written.
        """
        return self.submit_labels([LabelRow(request_id, row, label, time_ns)]).result()[0]

    def submit_labels(self, labels: Sequence[LabelRow]) -> Future[list[bool]]:
        """Several labels with one sync; the future says of each whether its row is known."""
        # Encoded here once more than needed: what cannot be written must fail its caller, not the whole group.
        data, future = encode_labels(labels, [False] * len(labels)), Future[list[bool]]()
        self._writer.give(Entry(partial(_settle, future), len(data), labels=labels))
        return future

    def close(self) -> None:
        """Write what is waiting, then close; appends are refused from now on."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self._writer.close()
        self._log.close()
        os.close(self._lock)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _remember(self, place: Place) -> None:
        if not place.is_labels:
            block = place.rows()
            self._known.add(block.request_id, block.row.tolist())


def _settle(future: Future[Any], outcome: Any) -> None:
    with contextlib.suppress(InvalidStateError):  # cancelled by a caller that gave up: written all the same
        if isinstance(outcome, JournalError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def lock_writer(folder: Path) -> int:
    """An open file that holds the right to write a journal until it is closed.

    Raises:
        Conflict: another process has it.
    """
    handle = os.open(folder / "writer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise Conflict(
            "another process writes this journal", where=str(folder), fix="stop the other scoring service"
        ) from None
    return handle


def _load_closed(folder: Path, known: KnownRows) -> None:
    """Rows of closed segments, in whatever form they are."""
    from trimtab.journal.layout import layout  # a journal that was never compacted needs no Parquet library

    found = layout(folder)
    for segment in found.closed:
        for place in segment.whole():
            if not place.is_labels:
                block = place.rows()
                known.add(block.request_id, block.row.tolist())
    if found.row_files:
        from trimtab.journal.parquet import read_keys

        for path in found.row_files:
            known.add(*read_keys(path))
