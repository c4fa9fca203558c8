"""A client's connection: uvicorn's, with the two limits it lacks on the head of a request, its time and its size.

uvicorn ends a connection that is idle after an answer, but waits for ever for a first head, or for the rest of one that
comes a byte a minute, and keeps as many header lines as a client sends. The body has its own limits (`body`).
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 10.0
HEAD_BYTES = 2**16


class Connection(HttpToolsProtocol):
    """One connection; a head that takes longer than `HEAD_S` ends it, one beyond `HEAD_BYTES` is answered 431.

    What is left of a body after its answer (it was refused, say) gets as long. A head that comes in one read from the
    socket is never too large for memory, so size counts from the second read on.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came; unless it is of a body that is read, the end of something has to come soon."""
        if not self._in_body or self.cycle.response_complete:
            self._wait()
        super().data_received(data)
        if self._timer is not None and not self._in_body:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._wait_no_more()
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is whole."""
        self._wait_no_more()
        self._in_body = False
        super().on_message_complete()

    def _wait(self) -> None:
        if self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(HEAD_S, self._too_slow)

    def _wait_no_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._head_bytes = None, 0

    def _too_slow(self) -> None:
        self._timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait()  # part of a next request came early: this one is still answered
        elif not self.transport.is_closing():
            self.transport.close()

    def _refuse(self) -> None:
        self._wait_no_more()
        if not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
            self.transport.close()
