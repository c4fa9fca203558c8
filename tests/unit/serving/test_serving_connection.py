"""A connection byte by byte: too much before the body, too slow, or no HTTP at all is refused in JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import jsonschema
import pytest
import uvicorn
from uvicorn.server import ServerState

from trimtab.serving import connection
from trimtab.serving.answers import ERROR_SCHEMA
from trimtab.serving.connection import HEADER_BYTES, HEADERS, LimitedProtocol

GET = b"GET /ping HTTP/1.1\r\nHost: t\r\n"


class Wire(asyncio.Transport):
    """Collects what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written, self.closed = b"", False

    def write(self, data: Any) -> None:
        assert not self.closed, "written after the end"
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """As a transport does."""

    def resume_reading(self) -> None:
        """As a transport does."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body unless the path says otherwise, then answers it."""
    body = b""
    if scope["path"] == "/slow":
        await asyncio.sleep(0.1)
    while scope["path"] != "/early":
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


def play(script: Callable[[LimitedProtocol, Wire], Awaitable[None]]) -> Wire:
    """A connection on which the script happens."""

    async def run() -> Wire:
        config = uvicorn.Config(app, http=LimitedProtocol, ws="none", log_config=None, access_log=False)
        config.load()
        wire = Wire()
        protocol = LimitedProtocol(config=config, server_state=ServerState(), app_state={})
        protocol.connection_made(wire)
        await script(protocol, wire)
        closed = wire.closed
        protocol.connection_lost(None)
        wire.closed = closed  # by the protocol itself, not because the test ended
        return wire

    return asyncio.run(run())


def sends(*parts: bytes) -> Wire:
    """What comes back for data that arrive in these parts."""

    async def script(protocol: LimitedProtocol, wire: Wire) -> None:
        for part in parts:
            if not wire.closed:
                protocol.data_received(part)
            for _ in range(5):
                await asyncio.sleep(0)

    return play(script)


def refusal(wire: Wire) -> tuple[int, str]:
    """Status and error code of the only answer, which must be of the one form."""
    head, _, body = wire.written.partition(b"\r\n\r\n")
    assert wire.closed
    assert b"content-type: application/json" in head
    assert f"content-length: {len(body)}".encode() in head
    said = json.loads(body)
    jsonschema.validate(said, ERROR_SCHEMA)
    return int(head.split()[1]), said["error_code"]


def test_ordinary_requests_are_answered_one_after_the_other_on_one_connection() -> None:
    post = b"POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc"
    wire = sends(GET + b"\r\n", post[:20], post[20:], post + post)
    assert wire.written.count(b"HTTP/1.1 200 OK") == 4
    assert wire.written.count(b"abc") == 3
    assert not wire.closed


@pytest.mark.parametrize("count", [HEADERS - 1, HEADERS])
def test_headers_are_counted(count: int) -> None:
    wire = sends(GET + b"".join(b"X-%d: y\r\n" % index for index in range(count)) + b"\r\n")
    if count < HEADERS:
        assert b"200 OK" in wire.written
    else:
        assert refusal(wire) == (431, "BAD_REQUEST")


@pytest.mark.parametrize(
    "parts",
    [
        [GET + b"X: " + b"y" * HEADER_BYTES + b"\r\n\r\n"],
        [GET + b"X" * HEADER_BYTES + b": y\r\n\r\n"],
        [b"GET /" + b"x" * HEADER_BYTES + b" HTTP/1.1\r\n\r\n"],
        [GET + b"X: ", *[b"y" * 8000] * 6],  # one header that never ends
        [GET, *[b"X-%d: %s\r\n" % (index, b"y" * 5000) for index in range(10)]],
        [*[b"\r\n" * 4000] * 6],  # what comes before a request and is skipped
        [GET + b"\r\n", *[b"\r\n" * 4000] * 6],
    ],
    ids=["value", "name", "target", "endless", "many", "blank lines", "blank lines after an answer"],
)
def test_bytes_before_the_body_are_counted_also_where_the_parser_holds_them_back(parts: list[bytes]) -> None:
    wire = sends(*parts)
    wire.written = wire.written.rpartition(b"HTTP/1.1 ")[1] + wire.written.rpartition(b"HTTP/1.1 ")[2]
    assert refusal(wire) == (431, "BAD_REQUEST")


def test_a_large_body_and_the_beginning_of_the_next_request_in_one_piece_are_not_taken_for_headers() -> None:
    body = b"z" * 100_000
    post = b"POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    for parts in ([post + b"GET /ping HT", b"TP/1.1\r\nHost: t\r\n\r\n"], [post[:100], post[100:], GET + b"\r\n"]):
        wire = sends(*parts)
        assert wire.written.count(b"HTTP/1.1 200 OK") == 2
        assert not wire.closed


def test_trailers_of_a_chunked_body_count_as_headers() -> None:
    chunked = b"POST /x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    wire = sends(chunked, *[b"X-%d: y\r\n" % index for index in range(HEADERS)])
    assert wire.closed


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\x00\x01", b"nonsense\r\n\r\n", b"GET\r\n\r\n", b"GET /ping HTTP/9.9\r\n\r\n",
     GET + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", GET + b"Content-Length: -1\r\n\r\n",
     GET + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", GET + b"no colon\r\n\r\n",
     b"GET /\xff HTTP/1.1\r\n\r\n", b"POST /x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"],
)  # fmt: skip
def test_what_is_no_http_is_refused_in_json_or_closed(garbage: bytes) -> None:
    wire = sends(garbage)
    assert wire.closed
    if wire.written:
        assert refusal(wire) == (400, "BAD_REQUEST")


def test_garbage_behind_a_request_does_not_write_into_its_answer() -> None:
    async def script(protocol: LimitedProtocol, wire: Wire) -> None:
        protocol.data_received(GET + b"\r\nnonsense\r\n\r\n")
        assert wire.closed
        assert wire.written == b""
        await asyncio.sleep(0)

    play(script)


def waits(monkeypatch: pytest.MonkeyPatch, *parts: bytes) -> Wire:
    """What has come back for these parts once nobody waits any longer."""
    monkeypatch.setattr(connection, "HEADERS_S", 0.02)
    monkeypatch.setattr(connection, "REST_S", 0.02)

    async def script(protocol: LimitedProtocol, wire: Wire) -> None:
        for part in parts:
            protocol.data_received(part)
            for _ in range(5):
                await asyncio.sleep(0)
        for _ in range(400):
            if wire.closed:
                return
            await asyncio.sleep(0.005)

    return play(script)


def test_headers_that_do_not_end_are_given_up_with_408(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(waits(monkeypatch, GET + b"X-Slow")) == (408, "DEADLINE_EXCEEDED")


def test_a_connection_on_which_nothing_comes_is_closed_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = waits(monkeypatch)
    assert (wire.closed, wire.written) == (True, b"")


def test_a_second_request_that_does_not_end_is_given_up_too(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = waits(monkeypatch, GET + b"\r\n", b"GET /pi")
    first, _, second = wire.written[1:].partition(b"HTTP/1.1 ")
    assert b"200 OK" in first
    assert second.startswith(b"408")


def test_a_body_nobody_waits_for_is_not_waited_for_by_the_connection_either(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = waits(monkeypatch, b"POST /early HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\nslow")
    assert wire.closed
    assert wire.written.count(b"HTTP/1.1 ") == 1


def test_a_body_that_is_waited_for_is_left_to_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEADERS_S", 0.01)
    monkeypatch.setattr(connection, "REST_S", 0.01)

    async def script(protocol: LimitedProtocol, wire: Wire) -> None:
        protocol.data_received(b"POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\na")
        await asyncio.sleep(0.05)
        assert not wire.closed
        protocol.data_received(b"b")
        await asyncio.sleep(0.01)

    assert play(script).written.endswith(b"ab")


@pytest.mark.parametrize("behind", [b"", b"\r\n", b"GET /pi"])
def test_an_answer_may_take_longer_than_headers_may(monkeypatch: pytest.MonkeyPatch, behind: bytes) -> None:
    monkeypatch.setattr(connection, "HEADERS_S", 0.02)

    async def script(protocol: LimitedProtocol, wire: Wire) -> None:
        protocol.data_received(GET.replace(b"/ping", b"/slow") + b"\r\n")
        if behind:
            protocol.data_received(behind)
        await asyncio.sleep(0.08)
        assert not wire.closed
        await asyncio.sleep(0.04)

    assert play(script).written.startswith(b"HTTP/1.1 200 OK")
