"""A journal that nobody writes any more, e.g. that of a challenger after its trial: its last segment is closed too.

Else that one would never be compacted, and so never be deleted, however old it is.
"""

from __future__ import annotations

import os
from datetime import UTC, date, datetime
from pathlib import Path

from trimtab.errors import Conflict
from trimtab.journal.layout import layout
from trimtab.journal.log import Log
from trimtab.journal.segments import HEAD_SIZE, Segment
from trimtab.journal.wal import lock_writer


def close_resting(folder: Path, before: date) -> bool:
    """Close the last segment, where nothing was written on or after a UTC day and no service has the journal open.

    A service that opens it at this very moment meets a Conflict, and tries again.

    Returns:
        Whether it was closed: the next segment is begun, and empty.

    Raises:
        StateError: the segment is damaged; it is left as it is.
    """
    resting = _resting(folder, before)
    if resting is None:
        return False
    try:
        handle = lock_writer(folder)
    except Conflict:
        return False  # its writer closes the segments of other days by itself
    try:
        log = Log(folder, HEAD_SIZE + 1, lambda place: None)  # with any record in it a segment of this size is full
        log.turn()
        log.close()
    finally:
        os.close(handle)
    return layout(folder).active != resting


def _resting(folder: Path, before: date) -> Segment | None:
    """The last segment, where it is old enough and may hold records."""
    active = layout(folder).active if folder.is_dir() else None
    if active is None:
        return None
    found = active.path.stat()
    old = datetime.fromtimestamp(found.st_mtime, UTC).date() < before
    return active if old and found.st_size > HEAD_SIZE else None
