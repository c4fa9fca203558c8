"""Open loop: requests come at random moments (Poisson), whether or not earlier ones were answered.

wrk cannot do that. The client here is small: prepared bytes on kept connections, a new connection where all are busy.
Latency counts from the moment a request was due, so a server that falls behind cannot hide it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

MOST_CONNECTIONS = 512
DRAIN_S = 60.0
MOST_IDLE_S = 2.0  # servers end a kept connection after some seconds, perhaps just when it is used again


@dataclass(frozen=True)
class Answered:
    """One answer: which of the bodies it was to, seconds since that was due, status and body."""

    which: int
    seconds: float
    status: int
    body: bytes


class Unanswered(Exception):
    """The server falls so far behind that all connections wait for it, or ended one instead of answering.

    Args:
        sent: requests that it got.
    """

    def __init__(self, what: str, sent: int) -> None:
        super().__init__(what)
        self.sent = sent


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] | None = None
        self.idle_since = 0.0
        self._received = bytearray()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def ask(self, request: bytes) -> asyncio.Future[bytes]:
        self._received.clear()
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if separator and len(body) >= _length(head) and self.answer is not None and not self.answer.done():
            self.answer.set_result(bytes(self._received))

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(ConnectionResetError("the server ended the connection"))


def poisson(
    url: str, bodies: Sequence[Path], headers: Mapping[str, str], rate: float, seconds: float, seed: int
) -> list[Answered]:
    """All answers to requests that were due at `rate` a second on average, for so long.

    Raises:
        Unanswered: more than `MOST_CONNECTIONS` wait at once, the last ones longer than a minute, or the server ended a
            connection instead of answering.
    """
    return uvloop.run(_poisson(url, bodies, headers, rate, seconds, random.Random(seed)))


def arrivals(rate: float, seconds: float, chance: random.Random) -> Iterator[float]:
    """Moments at which requests are due, seconds from the begin."""
    due = 0.0
    while (due := due + chance.expovariate(rate)) < seconds:
        yield due


def queue_alone(rate: float, seconds: float, seed: int, service_s: float) -> list[float]:
    """Seconds from due to answered of the same arrivals, where each takes `service_s` of one server and nothing else.

    A single queue (M/D/1): what is left of a tail when a server and its machine have no faults at all.
    """
    waits, free = [], 0.0
    for due in arrivals(rate, seconds, random.Random(seed)):
        free = max(free, due) + service_s
        waits.append(free - due)
    return waits


async def _poisson(
    url: str, bodies: Sequence[Path], headers: Mapping[str, str], rate: float, seconds: float, chance: random.Random
) -> list[Answered]:
    address = urlsplit(url)
    requests = [_request(url, headers, path.read_bytes()) for path in bodies]
    idle: list[_Connection] = []
    answered: list[Answered] = []
    waiting: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()

    async def ask(which: int, due: float) -> None:
        connection = _kept(idle)
        if connection is None:
            _, connection = await loop.create_connection(_Connection, address.hostname, address.port)
        whole = await connection.ask(requests[which])
        seconds = time.perf_counter() - due
        head, _, body = whole.partition(b"\r\n\r\n")
        answered.append(Answered(which, seconds, int(head.split(b" ", 2)[1]), body))
        connection.idle_since = time.perf_counter()
        idle.append(connection)

    begin = time.perf_counter()
    number = 0
    for moment in arrivals(rate, seconds, chance):
        due = begin + moment
        await asyncio.sleep(max(due - time.perf_counter(), 0))
        if len(waiting) >= MOST_CONNECTIONS:
            break
        task = asyncio.create_task(ask(number % len(requests), due))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
        number += 1
    overwhelmed = len(waiting) >= MOST_CONNECTIONS
    _, late = await asyncio.wait(waiting, timeout=DRAIN_S) if waiting else (set(), set())
    for connection in idle:
        connection.transport.close()
    if overwhelmed or late:
        for task in late:
            task.cancel()
        raise Unanswered(f"{len(late) or MOST_CONNECTIONS} requests wait at {rate:.0f} a second", number)
    if len(answered) != number:
        raise Unanswered(f"{number - len(answered)} of {number} requests were not answered", number)
    return answered


def _kept(idle: list[_Connection]) -> _Connection | None:
    """The connection that was used last, unless it has been idle for so long that its server may be ending it."""
    while idle:
        connection = idle.pop()
        if time.perf_counter() - connection.idle_since < MOST_IDLE_S and not connection.transport.is_closing():
            return connection
        connection.transport.close()
    return None


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    raise ValueError("an answer without Content-Length")


def _request(url: str, headers: Mapping[str, str], body: bytes) -> bytes:
    address = urlsplit(url)
    lines = [f"POST {address.path} HTTP/1.1", f"Host: {address.netloc}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
