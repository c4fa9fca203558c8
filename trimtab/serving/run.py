"""A service as a process: one address, JSON logs on standard error, and a clean end on SIGTERM."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from types import FrameType

import uvicorn
from pythonjsonlogger.json import JsonFormatter

from trimtab.errors import StateError
from trimtab.serving.app import build
from trimtab.serving.connection import LimitedProtocol
from trimtab.serving.heap import freeze
from trimtab.serving.service import Service
from trimtab.serving.tls import Tls

# Seconds after which a thread that waits for the interpreter's lock asks for it. With the default of 5 ms the model's
# thread waits that long behind a busy event loop for the moment it takes to hand over an answer and take the next
# request: several times as long as a small model runs.
SWITCH_S = 0.0005
LINGER_S = 1  # seconds that connections have to close once nothing is under way
_BACKLOG = 1024


def bind(host: str, port: int) -> socket.socket:
    """A listening address, taken before anything is loaded; port 0 takes a free one.

    Raises:
        StateError: it is in use, or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise StateError(
            f"cannot be listened on ({error.strerror})", where=f"{host}:{port}", fix="choose another --port"
        ) from None
    listener.listen(_BACKLOG)
    return listener


def log_to_stderr() -> None:
    """One JSON object a line: time, level, logger, message."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # one line a poll otherwise


class _Server(uvicorn.Server):
    """Uvicorn that, told to end, first drains with its door open, and ends in the stated time whatever hangs."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM or SIGINT: drain; the second SIGINT ends at once."""
        seconds = self._service.drain_s
        if self._service.drain.begin(seconds):
            last = threading.Timer(seconds, _give_up, [seconds])
            last.daemon = True
            last.start()
        elif sig == signal.SIGINT:
            self.should_exit = self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to end."""
        return await super().on_tick(counter) or self._service.drain.over


def serve(service: Service, listener: socket.socket, tls: Tls | None = None) -> None:
    """Serve until SIGTERM or SIGINT. Then requests under way are answered, new ones get 503, the journal is closed.

    The process ends `serving.drain_s` after the signal at the latest: with exit code 0, or 1 where a model or a disk
    hangs. Answers that were given are in the journal in either case.
    """
    config = uvicorn.Config(
        build(service),
        http=LimitedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=LINGER_S,
        server_header=False,
        ssl_certfile=tls.certificate if tls is not None else None,
        ssl_keyfile=tls.key if tls is not None else None,
    )
    sys.setswitchinterval(SWITCH_S)
    server = _Server(config, service)
    # Uvicorn sets the same handlers while it serves. Before that a signal must not be lost, and after it the default
    # action would end the process with a signal instead of exit code 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    host, port = listener.getsockname()[:2]
    scheme = "http" if tls is None else "https"
    logging.getLogger(__name__).info("%s on %s://%s:%s", service.name, scheme, host, port)
    if service.tokens is not None and not len(service.tokens):
        logging.getLogger(__name__).warning("no token yet, so nobody may ask: `trimtab tokens add`")
    freeze()
    server.run(sockets=[listener])
    if not service.closed_whole:
        _end("a model or a disk hangs")


def _give_up(seconds: float) -> None:
    _end(f"not drained within {seconds:g} s")


def _end(reason: str) -> None:
    """End without waiting for threads that hang; Python itself would wait for them for ever."""
    logging.getLogger(__name__).error("%s; the process ends now", reason)
    os._exit(1)
