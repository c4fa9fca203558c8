"""Connections that send slowly, too much, or nothing, against the real HTTP server."""

from __future__ import annotations

import socket
import threading
import time

import pytest
import uvicorn

from trimtab.serving import connections
from trimtab.serving.connections import HEAD_BYTES, Connection

pytestmark = pytest.mark.integration
HEAD = b"POST / HTTP/1.1\r\nHost: t\r\n"
SLOW_S = 0.3


async def echo(scope, receive, send):
    """Answers 200 with the length of the body; /early answers before it has read it."""
    assert scope["type"] == "http"
    size, more = 0, scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message["more_body"]
    body = str(size).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]}
    )
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def address(monkeypatch):
    monkeypatch.setattr(connections, "HEAD_S", SLOW_S)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        echo, http=Connection, ws="none", lifespan="off", log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield listener.getsockname()
    server.should_exit = True
    thread.join(20)


def connected(address) -> socket.socket:
    client = socket.create_connection(address, timeout=20)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def answer(client: socket.socket) -> bytes:
    """One answer with a Content-Length, or what came before the connection ended."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = client.recv(65536)
        if not part:
            return received
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += client.recv(65536)
    return head + b"\r\n\r\n" + body


def ended(client: socket.socket) -> bool:
    """Whether the server ends the connection without a word; waits for it."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def trickle(client: socket.socket, data: bytes) -> None:
    """Send a byte at a time."""
    for byte in data:
        client.sendall(bytes([byte]))
        time.sleep(0.01)


def post(body: bytes, path: bytes = b"/") -> bytes:
    return HEAD.replace(b" / ", b" " + path + b" ") + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("sent", [b"", b"P", HEAD, HEAD + b"X-Header: half", b"\r\n"])
def test_a_connection_without_a_whole_head_is_ended(address, sent):
    with connected(address) as client:
        client.sendall(sent)
        assert ended(client)


def test_a_head_that_comes_a_byte_at_a_time_is_not_waited_for(address):
    with connected(address) as client, pytest.raises((BrokenPipeError, ConnectionResetError)):
        trickle(client, HEAD + b"X: " + b"y" * 10_000)


def test_the_next_request_on_a_kept_connection_has_the_same_time(address):
    with connected(address) as client:
        client.sendall(post(b"abc"))
        assert answer(client).endswith(b"\r\n\r\n3")
        client.sendall(HEAD)
        assert ended(client)


def test_requests_one_after_the_other_and_all_at_once_are_answered(address):
    with connected(address) as client:
        for size in (0, 3, 70_000, 600_000):
            client.sendall(post(b"x" * size))
            assert answer(client).endswith(b"\r\n\r\n%d" % size)
        client.sendall(post(b"ab") * 3)
        received = b""
        while received.count(b"HTTP/1.1 200") < 3 or not received.endswith(b"2"):
            received += client.recv(65536)


def test_a_body_may_take_longer_than_a_head(address):
    with connected(address) as client:
        client.sendall(HEAD + b"Content-Length: 4\r\n\r\nab")
        time.sleep(2 * SLOW_S)
        client.sendall(b"cd")
        assert answer(client).endswith(b"\r\n\r\n4")


def test_a_head_without_end_is_431_and_the_connection_is_ended(address):
    with connected(address) as client:
        client.sendall(HEAD)
        received = b""
        try:
            for _ in range(2 * HEAD_BYTES // 1000):
                client.sendall(b"X-More: " + b"y" * 990 + b"\r\n")
                time.sleep(0.001)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            received = client.recv(65536)
        except ConnectionResetError:
            return  # the answer was lost with the rest of what we sent; the connection is ended all the same
        assert received.startswith(b"HTTP/1.1 431 ")


def test_the_rest_of_a_body_that_was_answered_early_is_not_waited_for(address):
    with connected(address) as client:
        client.sendall(HEAD.replace(b" / ", b" /early ") + b"Content-Length: 100000\r\n\r\nab")
        assert answer(client).endswith(b"\r\n\r\n0")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            trickle(client, b"x" * 10_000)


def test_other_clients_are_served_meanwhile(address):
    slow = [connected(address) for _ in range(50)]
    try:
        for client in slow:
            client.sendall(HEAD)
        with connected(address) as client:
            client.sendall(post(b"abc"))
            assert answer(client).endswith(b"\r\n\r\n3")
    finally:
        for client in slow:
            client.close()
