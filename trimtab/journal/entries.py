"""What callers of the journal wait for, and how it becomes records: exchanges beside one another share theirs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from trimtab.errors import StateError
from trimtab.journal.exchanges import Exchange, block_of, together
from trimtab.journal.records import Part, parts_of
from trimtab.journal.rows import LabelRow

_logger = logging.getLogger(__name__)


class JournalError(StateError):
    """The journal cannot take rows now (disk full or unwritable, too much waiting, closed); nothing was written."""


Settle = Callable[[Any], None]


@dataclass(slots=True)
class Entry:
    """What one caller waits for: an exchange, encoded rows with the request id and row index of each, or labels.

    Attributes:
        settle: told the outcome, a `JournalError` where it is not in the journal.
        early: settled when it is written, not only when it is synced.
    """

    settle: Settle
    size: int
    data: bytes = b""
    exchange: Exchange | None = None
    request_ids: Sequence[str] = ()
    rows: Sequence[int] = ()
    labels: Sequence[LabelRow] = ()
    early: bool = False


def encoded(group: list[Entry]) -> Iterator[tuple[list[Part], list[Entry]]]:
    """Records of the entries that have any, in order; exchanges beside one another that are settled at the same moment
    share theirs."""
    for (shared, _), run in groupby(group, key=lambda entry: (entry.exchange is not None, entry.early)):
        if shared:
            yield from _records(list(run))
        else:
            for entry in run:
                yield [entry.data], [entry]


def _records(entries: list[Entry]) -> Iterator[tuple[list[Part], list[Entry]]]:
    """Records of exchanges; one that cannot be written fails its caller, not the others."""
    try:
        runs = together([entry.exchange for entry in entries if entry.exchange is not None])
        yield [part for run in runs for part in parts_of(block_of(run))], entries
    except Exception as error:
        if len(entries) > 1:
            for entry in entries:
                yield from _records([entry])
            return
        _logger.error("journal: rows not written: %s", error)
        entries[0].settle(JournalError(f"cannot take these rows: {error}"))
