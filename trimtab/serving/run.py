"""A service as a process: one address, JSON logs on standard error, and a clean end on SIGTERM."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from typing import Any

import uvicorn
from pythonjsonlogger.json import JsonFormatter

from trimtab.errors import StateError
from trimtab.serving.app import build
from trimtab.serving.connection import LimitedProtocol
from trimtab.serving.service import Service
from trimtab.serving.tls import Tls

DRAIN_S = 10
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


def serve(service: Service, listener: socket.socket, tls: Tls | None = None) -> None:
    """Serve until SIGTERM or SIGINT: no new connections, requests under way are answered, the journal is closed."""
    config = uvicorn.Config(
        build(service),
        http=LimitedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=DRAIN_S,
        server_header=False,
        ssl_certfile=tls.certificate if tls is not None else None,
        ssl_keyfile=tls.key if tls is not None else None,
    )
    # uvicorn restores these handlers when it has drained and raises the signal once more; the default ones would
    # then end the process with a signal instead of exit code 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _already_drained)
    host, port = listener.getsockname()[:2]
    scheme = "http" if tls is None else "https"
    logging.getLogger(__name__).info("%s on %s://%s:%s", service.name, scheme, host, port)
    if service.tokens is not None and not len(service.tokens):
        logging.getLogger(__name__).warning("no token yet, so nobody may ask: `trimtab tokens add`")
    uvicorn.Server(config).run(sockets=[listener])


def _already_drained(number: int, frame: Any) -> None:
    """Nothing is left to do."""
