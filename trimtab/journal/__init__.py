"""The journal: what was asked and answered, append-only, durable before a request is acknowledged.

The scoring service writes it (`wal.Journal`); monitoring reads windows of it from another process (`reader`).
Offsets are counts of rows since the beginning and never change; nothing heavy is imported here.
"""

from trimtab.journal.rows import LabelRow, Row

__all__ = ["LabelRow", "Row"]
