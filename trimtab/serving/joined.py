"""The head of an answer and its body in one packet.

uvicorn writes them one after the other, and each write is a system call that wakes the client. Seen with uvicorn 0.54.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Transport
from typing import Any

_HEAD, _INTERIM = b"HTTP/1.1 ", b"HTTP/1.1 1"  # a final answer; one that only says to go on
SMALL = 2**16  # bytes that are rather copied than written by themselves


class Joined:
    """A transport that holds back the head of an answer until its body follows, or the loop's next turn.

    Args:
        transport: what it writes to; everything but writing and closing is the transport's own.
    """

    def __init__(self, transport: Transport, loop: AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._head = b""

    def write(self, data: bytes) -> None:
        """Write, or hold back."""
        head, self._head = self._head, b""
        if not head and data.startswith(_HEAD) and not data.startswith(_INTERIM):
            self._head = data
            self._loop.call_soon(self._flush)
        elif head and len(data) > SMALL:
            self._transport.writelines([head, data])
        else:
            self._transport.write(head + data)

    def close(self) -> None:
        """Close when all is written."""
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        head, self._head = self._head, b""
        if head:
            self._transport.write(head)
