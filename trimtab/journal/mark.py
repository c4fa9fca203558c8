"""How far the journal is durable, told by the writer to readers in other processes.

A reader must not see what was written but not yet synced: a power cut could take it back and give its offsets to
other rows. So the writer stores (segment, bytes, rows) in a small file after each sync. That file's own sync does not
matter: an older value only shows readers less than there is, until the writer starts again and mends it.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

FILE = "durable"
_FIELDS = struct.Struct("<QQQ")
_CRC = struct.Struct("<I")
_SIZE = _FIELDS.size + _CRC.size
_TRIES = 50


@dataclass(frozen=True)
class Mark:
    """The durable end: number of the last segment, its sound bytes, and rows in the whole journal."""

    segment: int
    size: int
    rows: int


class MarkWriter:
    """The writer's side; one small write a sync.

    Raises:
        OSError: the file cannot be created; its block is reserved then, so later writes need no space.
    """

    def __init__(self, folder: Path) -> None:
        self._handle = os.open(folder / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.posix_fallocate(self._handle, 0, _SIZE)

    def write(self, mark: Mark) -> None:
        """Publish a new durable end."""
        fields = _FIELDS.pack(mark.segment, mark.size, mark.rows)
        os.pwrite(self._handle, fields + _CRC.pack(zlib.crc32(fields)), 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


def read_mark(folder: Path) -> Mark | None:
    """The durable end as last published; None when nothing ever was, or the value is damaged (a scan tells then)."""
    for _ in range(_TRIES):
        try:
            data = (folder / FILE).read_bytes()[:_SIZE]
        except FileNotFoundError:
            return None
        if len(data) < _SIZE or not any(data):
            return None
        (crc,) = _CRC.unpack_from(data, _FIELDS.size)
        if zlib.crc32(data[: _FIELDS.size]) == crc:
            return Mark(*_FIELDS.unpack_from(data))
        time.sleep(0.001)  # caught the writer in the middle of a store
    return None
