"""The file of outcomes: append-only, one line an outcome, folded into one line a pair of versions when it is large.

    <CRC-32 of the JSON, 8 hex digits> {"outcome": {…}}
    <CRC-32 of the JSON, 8 hex digits> {"tally": {…}}

Nobody is told that an outcome is durable, so a line is written at once (it survives `kill -9`) and synced once a second
(a power cut may take the last second). A last line that is not whole was cut by a crash and is cut off; any other that
is not sound means that the disk changed it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trimtab.errors import StateError
from trimtab.journal.outcomes import Outcome, Pair, Tally, summed
from trimtab.store import write_atomic

FILE = "comparisons.log"
LARGEST = 2**21  # bytes; about 8,000 outcomes, read in a fraction of a second at a start
SYNC_S = 1.0
_HEAD = 9  # CRC-32 and a blank
_logger = logging.getLogger(__name__)


class Comparisons:
    """The outcomes of one release name, opened for writing. Thread-safe; one process at a time (the journal's lock).

    A damaged file is moved aside, with an error in the log, and the count begins again: what serves must not depend on
    it, and what is promoted on it must not rest on what cannot be read.

    Args:
        folder: created if absent. largest: bytes beyond which the lines become one a pair.

    Raises:
        StateError: the folder or the file cannot be written.
    """

    def __init__(self, folder: Path, largest: int = LARGEST) -> None:
        self.path, self._largest = folder / FILE, largest
        self._lock = threading.Lock()
        self._synced_at = time.monotonic()
        self._handle = -1
        try:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                self._tallies, self._size = _read(self.path)
            except StateError as error:
                aside = self.path.with_name(f"{FILE}.damaged-{time.time_ns()}")
                _logger.error("%s; moved to %s, counted anew", error, aside)
                os.replace(self.path, aside)
                self._tallies, self._size = {}, 0
            self._open()
            os.ftruncate(self._handle, self._size)
        except OSError as error:
            raise StateError(f"cannot be written ({error.strerror})", where=str(self.path)) from None

    def add(self, outcome: Outcome) -> bool:
        """Write an outcome down.

        Returns:
            False where the disk does not take it: then it does not count either.
        """
        line = _line({"outcome": outcome.to_json()})
        with self._lock:
            if self._handle < 0:
                return False
            try:
                self._append(line)
            except OSError as error:
                _logger.error("%s: an outcome is not recorded: %s", self.path, error)
                return False
            self._tallies = summed([outcome], self._tallies)
            self._sync()
            return True

    def tally(self, champion: str, challenger: str) -> Tally:
        """The sum of a pair's outcomes."""
        return self._tallies.get((champion, challenger), Tally(champion, challenger))

    def tallies(self) -> list[Tally]:
        """Every pair's, the one with the last outcome first."""
        return newest_first(self._tallies)

    def close(self) -> None:
        """Sync and close; what comes later is not recorded."""
        with self._lock:
            if self._handle >= 0:
                with contextlib.suppress(OSError):
                    os.fsync(self._handle)
                os.close(self._handle)
                self._handle = -1

    def _open(self) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = handle

    def _append(self, line: bytes) -> None:
        if self._size + len(line) > self._largest:
            self._fold()
        try:
            view = memoryview(line)
            while view:
                view = view[os.write(self._handle, view) :]
        except OSError:
            with contextlib.suppress(OSError):  # else the next line would hang on to half of this one
                os.ftruncate(self._handle, self._size)
            raise
        self._size += len(line)

    def _sync(self) -> None:
        if time.monotonic() - self._synced_at >= SYNC_S:
            self._synced_at = time.monotonic()
            try:
                os.fsync(self._handle)
            except OSError as error:
                _logger.error("%s cannot be synced: %s", self.path, error)

    def _fold(self) -> None:
        data = b"".join(_line({"tally": tally.to_json()}) for tally in self._tallies.values())
        if len(data) > self._largest // 2:
            self._largest = 2 * len(data)  # so many pairs: folding each time would gain nothing
        write_atomic(self.path, data)
        self._open()
        self._size = len(data)


def read_tallies(folder: Path) -> dict[Pair, Tally]:
    """The sums by pair, read beside the process that writes; empty where there is no file yet.

    Raises:
        StateError: the file is damaged, or cannot be read.
    """
    try:
        return _read(folder / FILE)[0]
    except OSError as error:
        raise StateError(f"cannot be read ({error.strerror})", where=str(folder / FILE)) from None


def newest_first(tallies: Mapping[Pair, Tally]) -> list[Tally]:
    """Tallies by the time of their last outcome."""
    return sorted(tallies.values(), key=lambda tally: -tally.last_ns)


def _line(value: Mapping[str, Any]) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    return b"%08x " % zlib.crc32(text) + text + b"\n"


def _read(path: Path) -> tuple[dict[Pair, Tally], int]:
    """The sums, and how many bytes from the beginning are sound.

    Raises:
        StateError: a line that is not the last is not sound. OSError: the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}, 0
    tallies: dict[Pair, Tally] = {}
    end = 0
    for line in data.splitlines(keepends=True):
        value = _value(line)
        if value is None:
            if end + len(line) < len(data):
                raise StateError(
                    f"the line at byte {end} is damaged",
                    where=str(path),
                    fix="restart the scoring service: it moves the file aside and counts anew",
                )
            break
        end += len(line)
        if isinstance(value, Tally):
            tallies[value.champion, value.challenger] = value
        else:
            tallies = summed([value], tallies)
    return tallies, end


def _value(line: bytes) -> Outcome | Tally | None:
    """What a line says; None for one that is not whole."""
    text = line[_HEAD:-1]
    try:
        if not line.endswith(b"\n") or int(line[: _HEAD - 1], 16) != zlib.crc32(text):
            return None
        value = json.loads(text)
        return Tally.from_json(value["tally"]) if "tally" in value else Outcome.from_json(value["outcome"])
    except (ValueError, KeyError, TypeError):
        return None
