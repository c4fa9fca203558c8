"""One HTTP connection: a limit on what comes before the body and on its time, and errors of the parser as JSON.

uvicorn's parser takes headers of any number and size and waits for them for ever, and answers what it cannot parse with
plain text. Seen with uvicorn 0.54 and httptools 0.9.
"""

from __future__ import annotations

from asyncio import Transport
from asyncio.events import TimerHandle
from typing import Any, cast

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from trimtab.serving.body import WHOLE
from trimtab.serving.joined import Joined

HEADERS = 100
HEADER_BYTES = 32_768  # of the request target and all names and values
HEADERS_S = 10.0  # from the connection, or the first byte of a later request, to the end of its headers
TOGETHER = 2**20  # bytes of a body that are collected before the application is woken
REST_S = 10.0  # after an answer that did not wait for the whole body: to its end


class LimitedProtocol(HttpToolsProtocol):
    """A connection that neither waits for ever nor collects without end until a request begins."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._awaited = True  # headers are to come
        self._begun = False  # a request has come in part
        self._moved = False  # a request began or ended with the data being looked at
        self._headers = self._bytes = self._unparsed = 0
        self._refusal = (400, "BAD_REQUEST", "the request is not HTTP/1.1")
        self._patience: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Wait for the first request for so long."""
        super().connection_made(cast(Transport, Joined(transport, self.loop)))
        self._wait(HEADERS_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._wait(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; what the parser holds back, such as one endless header, is limited here."""
        self._moved = False
        super().data_received(data)
        if not self._awaited or self.transport.is_closing():
            return
        self._unparsed = 0 if self._moved else self._unparsed + len(data)
        if self._unparsed > HEADER_BYTES:
            self._refuse_headers()
            self.send_400_response("")
        elif self._patience is None and (self._begun or not self._moved):
            self._wait(HEADERS_S)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._awaited = self._begun = self._moved = True
        self._headers = self._bytes = 0

    def on_url(self, url: bytes) -> None:
        """A part of the request target."""
        self._add(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; of a chunked body also a trailer."""
        self._headers += 1
        self._add(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The request goes to the application."""
        self._awaited = False
        self._wait(None)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body: the application is woken once it is whole, or there is much of it.

        uvicorn wakes it for each part, and stops reading from the socket at every 64 KiB: for a body of a few hundred
        kilobytes that is most of what the event loop does.
        """
        if self.cycle.response_complete or self.parser.should_upgrade():
            super().on_body(body)
            return
        self.cycle.body += body
        if len(self.cycle.body) > TOGETHER:
            self.flow.pause_reading()
            self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        """The whole body has come."""
        self._awaited = self._moved = True
        self._begun = False
        self._wait(None)
        self.scope[WHOLE] = True  # type: ignore[literal-required]
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer went out; a body it did not wait for may still come, and is thrown away, for a while."""
        super().on_response_complete()
        if self._begun and not self._awaited and self.cycle.response_complete:
            self._wait(REST_S)

    def send_400_response(self, msg: str) -> None:
        """What the parser refused, or what was too much for it."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            status, code, message = self._refusal
            body = orjson.dumps({"error_code": code, "message": message})
            head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + head + body)
        # Otherwise the answer to the request before it is under way, and nothing may be written into it.
        self.transport.close()

    def _add(self, size: int) -> None:
        self._bytes += size
        if self._headers > HEADERS or self._bytes > HEADER_BYTES:
            self._refuse_headers()
            raise ValueError(self._refusal[2])  # stops the parser, whose caller asks for the answer

    def _refuse_headers(self) -> None:
        self._refusal = 431, "BAD_REQUEST", f"more than {HEADERS} headers, or more than {HEADER_BYTES} bytes of them"

    def _wait(self, seconds: float | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience = None if seconds is None else self.loop.call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        self._patience = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait(HEADERS_S)  # the answer to the request before it may take its time
        elif self._awaited and self._begun:
            self._refusal = 408, "DEADLINE_EXCEEDED", f"the headers were not sent within {HEADERS_S:g} s"
            self.send_400_response("")
        elif not self.transport.is_closing():
            self.transport.close()
