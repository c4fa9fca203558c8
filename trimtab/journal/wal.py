"""The writer: callers on any thread append, one thread syncs for all of them.

While one sync is under way (0.1 to 10 ms) further appends gather; the next sync takes them all, so that its cost is
shared (group commit: DeWitt et al. 1984). Nobody is told "written" before the sync that covers his rows returned.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from functools import partial
from pathlib import Path
from typing import Any

from trimtab.errors import Conflict, StateError
from trimtab.journal.entries import Entry, JournalError, Settle, encoded
from trimtab.journal.exchanges import Exchange
from trimtab.journal.known import KnownRows
from trimtab.journal.log import Log
from trimtab.journal.records import Part, encode_labels, encode_rows
from trimtab.journal.rows import LabelRow, Row
from trimtab.journal.segments import Place, sync_directory

__all__ = ["Journal", "JournalError"]
_logger = logging.getLogger(__name__)


class Journal:
    """The journal of one release name, opened for writing. Thread-safe; one process at a time.

    Args:
        folder: created if absent.
        segment_bytes: size at which a segment is closed and may be compacted.
        max_pending_bytes: appends waiting for a slow disk beyond this are refused at once.
        idle_s: after so long without an append a segment of another UTC day is closed.

    Raises:
        Conflict: another process has it open. StateError: it cannot be written, or synced records are damaged.
    """

    def __init__(
        self, folder: Path, *, segment_bytes: int = 2**24, max_pending_bytes: int = 2**26, idle_s: float = 600.0
    ) -> None:
        self.folder = folder
        self._max_pending_bytes, self._idle_s = max_pending_bytes, idle_s
        self._pending: list[Entry] = []
        self._pending_bytes = 0
        self._closed = False
        self._changed = threading.Condition()
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
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @property
    def rows(self) -> int:
        """Rows in the journal, all durable."""
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
        self._enqueue(Entry(partial(_settle, future), len(data), data, request_ids=ids, rows=indices))
        return future

    def submit_exchange(self, exchange: Exchange, settle: Settle) -> None:
        """Write the rows of a request.

        Args:
            settle: called on the writer's thread when they are durable, with the number of rows in the journal, or
                with a `JournalError` where they are not in the journal and will not be. It must be quick.

        Raises:
            JournalError: as `submit`.
        """
        ids, indices = [exchange.request_id] * exchange.count, range(exchange.count)
        self._enqueue(Entry(settle, exchange.nbytes, exchange=exchange, request_ids=ids, rows=indices))

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
        self._enqueue(Entry(partial(_settle, future), len(data), labels=labels))
        return future

    def close(self) -> None:
        """Write what is waiting, then close; appends are refused from now on."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._log.close()
        os.close(self._lock)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _enqueue(self, entry: Entry) -> None:
        with self._changed:
            if self._closed:
                raise JournalError("is closed")
            if self._pending and self._pending_bytes + entry.size > self._max_pending_bytes:
                raise JournalError(f"{self._pending_bytes} bytes wait to be written: the disk is too slow")
            self._pending.append(entry)
            self._pending_bytes += entry.size
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._pending and not self._closed:
                    self._changed.wait(self._idle_s)
                group, self._pending, self._pending_bytes = self._pending, [], 0
                closed = self._closed
            if not group:
                if closed:
                    return
                self._turn()
                continue
            try:
                self._commit(group)
            except Exception as error:
                _logger.error("journal: %d appends not written: %s", len(group), error)
                refusal = JournalError(f"cannot be written: {error}", fix="free space on the state directory's disk")
                for entry in group:
                    entry.settle(refusal)

    def _turn(self) -> None:
        """Nothing came for a while: a segment of another day is closed all the same."""
        try:
            self._log.turn()
        except OSError as error:
            _logger.error("journal: the segment of another day stays open: %s", error)

    def _commit(self, group: list[Entry]) -> None:
        rows = self._log.rows
        fresh: set[tuple[str, int]] = set()
        looked_up = any(entry.labels for entry in group)
        parts: list[Part] = []
        answers: list[tuple[Entry, int | list[bool]]] = []
        for data, entries in encoded(group):
            for entry in entries:
                rows += len(entry.rows)
                if looked_up:
                    fresh.update(zip(entry.request_ids, entry.rows, strict=True))
                if entry.labels:
                    keys = [(label.request_id, label.row) for label in entry.labels]
                    known = [key in fresh or key in self._known for key in keys]
                    parts.append(encode_labels(entry.labels, known))
                    answers.append((entry, known))
                else:
                    answers.append((entry, rows))
            parts.extend(data)
        if any(parts):
            self._log.commit(parts, rows - self._log.rows)
        for entry, answer in answers:
            self._known.add(entry.request_ids, entry.rows)
            entry.settle(answer)

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
