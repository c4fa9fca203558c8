"""The name of a request: the client's X-Request-Id, or one of ours; labels come back under it."""

from __future__ import annotations

import os
import re

from trimtab.errors import ProtocolError

HEADER = "X-Request-Id"
PATTERN = "[A-Za-z0-9._:-]{1,128}"
_VALID = re.compile(PATTERN)
_BYTES, _TOGETHER = 16, 256  # the kernel is asked once for many: asking lets other threads have the interpreter's lock


_drawn: list[str] = []


def _new() -> str:
    """128 random bits in hex."""
    if not _drawn:
        drawn = os.urandom(_BYTES * _TOGETHER).hex()
        _drawn.extend(drawn[at : at + 2 * _BYTES] for at in range(0, len(drawn), 2 * _BYTES))
    return _drawn.pop()


def valid_id(value: str) -> bool:
    """Whether it is 1 to 128 letters, digits and . _ : - (it goes into logs, headers and files)."""
    return _VALID.fullmatch(value) is not None


def request_id(header: str | None) -> str:
    """The client's id if there is one, else a new one.

    Raises:
        ProtocolError: the client's has other characters or is too long.
    """
    if header is None:
        return _new()
    if not valid_id(header):
        raise ProtocolError("must be 1 to 128 letters, digits and . _ : -", where=HEADER)
    return header
