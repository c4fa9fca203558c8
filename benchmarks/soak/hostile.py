"""100,000 hostile requests: what is answered is looked at, and what the service weighs meanwhile."""

from __future__ import annotations

import json
import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

from benchmarks.soak.fuzz import hostile
from trimtab.serving.answers import ERROR_SCHEMA

CLIENTS = 4
ANSWER_S = 3.0  # a request that is not whole is not answered: it is closed after this
PARTIAL = 0.03  # share of requests of which only the beginning is sent
SAMPLE_S = 0.5
CODES = set(ERROR_SCHEMA["properties"]["error_code"]["enum"])


@dataclass
class Seen:
    """What came back.

    Attributes:
        bad_5xx: 5xx that are no honest 503. malformed: errors that have not the one form.
        statuses: by status; "closed" without an answer, "silent" where none came in time.
        examples: one request of each kind of badness.
    """

    sent: int = 0
    bad_5xx: int = 0
    malformed: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    examples: dict[str, bytes] = field(default_factory=dict)

    def add(self, other: Seen) -> None:
        """Count what another one saw as well."""
        self.sent += other.sent
        self.bad_5xx += other.bad_5xx
        self.malformed += other.malformed
        self.statuses += other.statuses
        self.examples |= other.examples


def flood(port: int, count: int, seed: int) -> Seen:
    """Send so many hostile requests over a few connections at a time."""
    seen, lock = Seen(), threading.Lock()
    with ThreadPoolExecutor(CLIENTS) as pool:
        parts = [count // CLIENTS + (index < count % CLIENTS) for index in range(CLIENTS)]
        list(pool.map(lambda part: _client(port, part[1], seed * CLIENTS + part[0], seen, lock), enumerate(parts)))
    return seen


@contextmanager
def weighing(process: psutil.Process) -> Iterator[list[float]]:
    """Resident memory of the service in bytes, sampled until the end of the block."""
    samples, over = [float(process.memory_info().rss)], threading.Event()

    def sample() -> None:
        while not over.wait(SAMPLE_S):
            samples.append(float(process.memory_info().rss))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


def _client(port: int, count: int, seed: int, seen: Seen, lock: threading.Lock) -> None:
    draw = random.Random(seed)
    connection: socket.socket | None = None
    for _ in range(count):
        sent = hostile(draw)
        partial = draw.random() < PARTIAL
        try:
            connection = connection or socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S)
            connection.sendall(sent[: draw.randrange(len(sent))] if partial else sent)
            status, body, goes_on = (None, b"", False) if partial else _answer(connection)
        except TimeoutError:
            status, body, goes_on = "silent", b"", False
        except OSError:
            status, body, goes_on = "closed", b"", False
        if not goes_on and connection is not None:
            connection.close()
            connection = None
        with lock:
            seen.sent += 1
            _judge(seen, status or "left", body, sent)


def _judge(seen: Seen, status: str, body: bytes, sent: bytes) -> None:
    seen.statuses[status] += 1
    if not status.isdigit() or int(status) < 400:
        return
    head_only = sent.startswith(b"HEAD ")
    formed = head_only or _is_formed(body, is_v2=b" /v2/" in sent.partition(b"\r\n")[0])
    if not formed:
        seen.malformed += 1
        seen.examples.setdefault(f"malformed {status}", sent)
    if int(status) >= 500 and not (status == "503" and formed):
        seen.bad_5xx += 1
        seen.examples.setdefault(status, sent)


def _is_formed(body: bytes, is_v2: bool) -> bool:
    """Whether it is an error of our one form; below /v2 that of the Open Inference Protocol will do."""
    try:
        said = json.loads(body)
        if is_v2 and set(said) == {"error"}:
            return isinstance(said["error"], str)
        return said["error_code"] in CODES and isinstance(said["message"], str)
    except (ValueError, KeyError, TypeError):
        return False


def _answer(connection: socket.socket) -> tuple[str, bytes, bool]:
    """Status, body, and whether the connection can be used again.

    Raises:
        OSError: closed before an answer.
    """
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(65_536)
        if not chunk:
            raise ConnectionResetError
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    status = lines[0].split()[1]
    if status == "100":  # continue: what follows is the answer, and too seldom to be worth a parser
        return status, b"", False
    length = int(headers.get("content-length", "0"))
    while len(body) < length:
        chunk = connection.recv(65_536)
        if not chunk:
            break
        body += chunk
    # Whoever sent two answers' worth of requests, or a HEAD, starts anew: what belongs to what would be a guess.
    goes_on = len(body) == length and headers.get("connection") != "close" and status in ("200", "202", "400")
    return status, body, goes_on
