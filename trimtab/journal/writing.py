"""The two threads behind a journal: one writes what callers gave, one syncs what was written.

A caller may do the writing itself, where nobody else does: that saves a change of threads, which takes longer.

    given ──► written ──► synced
              survives    survives a power cut;
              kill -9     readers see it

An entry is settled when it was written, where its caller asks for no more, else when it was synced. While one sync is
under way (0.1 to 10 ms) further records are written; the next one takes them all, so that its cost is shared (group
commit: DeWitt et al. 1984). Where nobody waits for it, there is one every 50 ms.

After a failed sync the kernel may have dropped what it could not write, and call the next sync a success (Rebello et
al. 2020). So the file is cut back to what was synced, and what was acknowledged since, kept in memory until then, is
written again into a fresh one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.journal.entries import Entry, JournalError, encoded
from trimtab.journal.known import KnownRows
from trimtab.journal.log import Log, SyncFailed
from trimtab.journal.records import Part, encode_labels

PACE_S = 0.05  # between syncs that nobody waits for
RETRY_S, LAST_RETRY_S = 1.0, 60.0  # of a disk that cannot sync, ever longer: each try begins a segment
_logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Unit:
    """Entries that share their records.

    Attributes:
        parts: whole records, one after the other. rows: that they hold. last: rows of the log with them.
        early: settled when they were written. answers: what each entry is told.
    """

    parts: list[Part]
    rows: int
    last: int
    early: bool
    answers: list[tuple[Entry, int | list[bool]]]

    @property
    def size(self) -> int:
        """Bytes that it was counted with."""
        return sum(entry.size for entry, _ in self.answers)


class Writer:
    """Takes entries from any thread.

    Args:
        known: gets the rows that are in the log. most_bytes: not yet synced, beyond which entries are refused at once.
        idle_s: after so long without an entry a segment of another UTC day is closed.
    """

    def __init__(self, log: Log, known: KnownRows, most_bytes: int, idle_s: float) -> None:
        self._log, self._known, self._most_bytes, self._idle_s = log, known, most_bytes, idle_s
        self._given: list[Entry] = []
        self._written: list[Unit] = []
        self._syncing: list[Unit] = []
        self._owed: list[Unit] = []  # acknowledged, and to be written again
        self._bytes = 0  # of all of these
        self._retry_s = RETRY_S
        self._closed = self._ended = self._broken = False
        self._came, self._lies = threading.Condition(), threading.Condition()
        self._file = threading.Lock()  # held by who writes; taken before the locks of the conditions
        self._threads = [_start(self._write_all, "journal"), _start(self._sync_all, "journal-sync")]

    def give(self, entry: Entry, *, wake: bool = True) -> None:
        """Have an entry written.

        Args:
            wake: False: the caller calls `write` or `wake` soon.

        Raises:
            JournalError: too much is waiting already, or the journal is closed.
        """
        with self._came:
            if self._closed:
                raise JournalError("is closed")
            if self._bytes and self._bytes + entry.size > self._most_bytes:
                raise JournalError(f"{self._bytes} bytes wait to be written: the disk is too slow")
            self._given.append(entry)
            self._bytes += entry.size
            if wake:
                self._came.notify()

    def wake(self) -> None:
        """Have what was given written by the thread for that."""
        with self._came:
            self._came.notify()

    def write(self) -> None:
        """Write what was given on the calling thread; where another one is writing, have that done after it."""
        if not self._file.acquire(blocking=False):
            self.wake()
            return
        try:
            group = self._take()
            outcome = self._put(group)
        finally:
            self._file.release()
        self._tell(group, outcome)

    def close(self) -> None:
        """Write and sync what is waiting; entries are refused from now on."""
        with self._came:
            self._closed = True
            self._came.notify()
        for thread in self._threads:
            thread.join()

    # The thread that writes.

    def _write_all(self) -> None:
        while True:
            with self._came:
                if not self._given and not self._closed:
                    self._came.wait(self._idle_s)
                closed = self._closed
            with self._file:
                group = self._take()
                outcome = self._put(group)
            if group:
                self._tell(group, outcome)
            elif closed:
                break
            else:
                self._turn()
            group, outcome = [], []  # nothing of it may stay until the next comes
        with self._lies:
            self._ended = True
            self._lies.notify()

    def _take(self) -> list[Entry]:
        with self._came:
            group, self._given = self._given, []
        return group

    def _put(self, group: list[Entry]) -> list[Unit] | Exception:
        """Write a group, `_file` is held; what it became, or why nothing of it is written."""
        if not group:
            return []
        try:
            self._mend()
            units = self._units(group)
            self._log.write([part for unit in units for part in unit.parts], sum(unit.rows for unit in units))
        except Exception as error:
            return error
        with self._lies:
            # A thread that keeps the pace wakes by itself, and waking it costs as much as writing a record.
            if not self._written or not all(unit.early for unit in units):
                self._lies.notify()
            self._written += units
        return units

    def _tell(self, group: list[Entry], outcome: list[Unit] | Exception) -> None:
        """What became of a group; `_file` is not held."""
        if isinstance(outcome, Exception):
            if isinstance(outcome, SyncFailed):
                self._fall(outcome)
            self._refuse(group, outcome)
            return
        self._release(sum(entry.size for entry in group) - sum(unit.size for unit in outcome))
        for unit in outcome:
            if unit.early:
                self._settle(unit)

    def _units(self, group: list[Entry]) -> list[Unit]:
        rows, units = self._log.rows, []
        fresh: set[tuple[str, int]] = set()
        looked_up = any(entry.labels for entry in group)
        if looked_up:
            with self._lies:
                for unit in [*self._syncing, *self._written]:
                    fresh.update(_keys(entry for entry, _ in unit.answers))
        for data, entries in encoded(group):
            parts, before = list(data), rows
            answers: list[tuple[Entry, int | list[bool]]] = []
            if looked_up:
                fresh.update(_keys(entries))
            for entry in entries:
                rows += len(entry.rows)
                if entry.labels:
                    keys = [(label.request_id, label.row) for label in entry.labels]
                    known = [key in fresh or key in self._known for key in keys]
                    parts = [encode_labels(entry.labels, known), *parts]
                    answers.append((entry, known))
                else:
                    answers.append((entry, rows))
            units.append(Unit([part for part in parts if part], rows - before, rows, entries[0].early, answers))
        return units

    def _turn(self) -> None:
        """Nothing came for a while: a segment of another day is closed all the same."""
        try:
            with self._file:
                if not self._broken:
                    self._log.turn()
        except SyncFailed as error:
            self._fall(error)
        except OSError as error:
            _logger.error("journal: the segment of another day stays open: %s", error)

    # The thread that syncs.

    def _sync_all(self) -> None:
        last = 0.0
        while self._wanted(last):
            last = time.monotonic()
            self._sync()
        if self._owed:
            self._sync()
        if self._owed:
            rows = sum(unit.rows for unit in self._owed)
            _logger.error("journal: %d acknowledged rows are lost: the disk does not take them", rows)

    def _wanted(self, last: float) -> bool:
        """Wait until a sync is due; False when nothing is written and nothing comes any more.

        Args:
            last: when the one before began, seconds of `time.monotonic`.
        """
        with self._lies:
            while True:
                if self._ended and not self._written:
                    return False
                if self._written and (self._ended or not all(unit.early for unit in self._written)):
                    return True
                pace = PACE_S if self._written else self._retry_s if self._owed else None
                wait_s = None if pace is None else last + pace - time.monotonic()
                if wait_s is not None and wait_s <= 0:
                    return True
                self._lies.wait(wait_s)

    def _sync(self) -> None:
        try:
            if self._broken:
                with self._file:
                    self._mend()
            with self._lies:
                self._syncing, self._written = self._written, []
            self._log.sync()
        except Exception as error:
            self._fall(error)
            return
        with self._lies:
            done, self._syncing = self._syncing, []
        self._retry_s = RETRY_S
        self._release(sum(unit.size for unit in done))
        for unit in done:
            if not unit.early:
                self._settle(unit)

    # Both.

    def _mend(self) -> None:
        """After a failed sync: go on behind what was synced, beginning with what is owed; `_file` is held.

        Raises:
            OSError: it is not possible yet.
        """
        if not self._broken:
            return
        self._log.start_over()
        owed = [unit for unit in self._owed if unit.last > self._log.rows]  # not synced after all
        self._release(sum(unit.size for unit in self._owed if unit not in owed))
        for unit in owed:
            self._log.write(unit.parts, unit.rows)
            unit.last = self._log.rows
        with self._lies:
            self._written, self._owed, self._broken = [*owed, *self._written], [], False
            self._lies.notify()

    def _fall(self, error: Exception) -> None:
        """A sync failed: who waits for it is told, what was acknowledged is owed."""
        _logger.error("journal: not synced: %s", error)
        with self._file, self._lies:
            lost, self._syncing, self._written = [*self._syncing, *self._written], [], []
            self._broken, self._retry_s = True, min(2 * self._retry_s, LAST_RETRY_S)
            self._owed += [unit for unit in lost if unit.early]
            self._lies.notify()
        self._refuse([entry for unit in lost if not unit.early for entry, _ in unit.answers], error)

    def _settle(self, unit: Unit) -> None:
        for entry, answer in unit.answers:
            self._known.add(entry.request_ids, entry.rows)
            entry.settle(answer)

    def _refuse(self, entries: Sequence[Entry], error: Exception) -> None:
        if not entries:
            return
        _logger.error("journal: %d appends not written: %s", len(entries), error)
        self._release(sum(entry.size for entry in entries))
        refusal = JournalError(f"cannot be written: {error}", fix="free space on the state directory's disk")
        for entry in entries:
            entry.settle(refusal)

    def _release(self, size: int) -> None:
        with self._came:
            self._bytes -= size


def _keys(entries: Any) -> list[tuple[str, int]]:
    return [key for entry in entries for key in zip(entry.request_ids, entry.rows, strict=True)]


def _start(run: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
