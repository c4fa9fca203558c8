"""Where each part of a journal is read from: a segment's write-ahead file while it exists, its Parquet files after.

    wal-00000007.log                                  the active segment (highest number) and closed ones
    rows/date=2026-11-25/segment-00000001.parquet     a compacted segment, rows of one UTC day
    labels/segment-00000001.parquet                   its labels
    forgotten.json                                    how far rows were deleted because they were old

Compaction removes the write-ahead file last, so there is a whole copy at every moment, and never two that count.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from trimtab.errors import StateError
from trimtab.journal.segments import Place, Segment, check_whole, list_segments, places

ROWS_FOLDER, LABELS_FOLDER = "rows", "labels"
FORGOTTEN = "forgotten.json"  # how far rows were deleted because they were old
_PARQUET = re.compile(r"segment-(\d{8})\.parquet")


@dataclass(frozen=True)
class Closed:
    """A segment that is never written again."""

    segment: Segment

    def whole(self) -> list[Place]:
        """All its records.

        Raises:
            StateError: one is damaged. FileNotFoundError: it has just been compacted.
        """
        data = self.segment.path.read_bytes()
        found = list(places(data, self.segment.path))
        check_whole(found, len(data), self.segment.path)
        return found


@dataclass(frozen=True)
class Layout:
    """The files of a journal at one moment.

    Attributes:
        active: the segment being written; None for a journal that never was.
        closed: write-ahead files waiting to be compacted.
        row_files, label_files: Parquet files of compacted segments only.
    """

    active: Segment | None
    closed: list[Closed]
    row_files: list[Path]
    label_files: list[Path]


def layout(folder: Path) -> Layout:
    """List the files. A segment compacted meanwhile shows as a FileNotFoundError when it is read: list again then."""
    segments = list_segments(folder)
    waiting = {segment.number for segment in segments}
    return Layout(
        active=segments[-1] if segments else None,
        closed=[Closed(segment) for segment in segments[:-1]],
        row_files=_compacted(folder / ROWS_FOLDER, "date=*/segment-*.parquet", waiting),
        label_files=_compacted(folder / LABELS_FOLDER, "segment-*.parquet", waiting),
    )


def forgotten_below(folder: Path) -> int:
    """An offset that every deleted row is below; 0 where none was ever deleted.

    Raises:
        StateError: the file that says so is damaged.
    """
    try:
        return int(json.loads((folder / FORGOTTEN).read_bytes())["below"])
    except FileNotFoundError:
        return 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(
            f"cannot be read ({type(error).__name__})", where=str(folder / FORGOTTEN), fix="restore it from a backup"
        ) from None


def _compacted(folder: Path, pattern: str, waiting: set[int]) -> list[Path]:
    found = ((path, _PARQUET.fullmatch(path.name)) for path in folder.glob(pattern))
    return sorted(path for path, match in found if match and int(match[1]) not in waiting)
