"""The command line that both ways of starting the service share, and what is refused before anything listens."""

from __future__ import annotations

import argparse
import ipaddress
import logging
from dataclasses import dataclass
from pathlib import Path

from trimtab.errors import StateError
from trimtab.serving.keeping import Keeping
from trimtab.serving.limits import MOST_PROCESSES
from trimtab.serving.service import Place
from trimtab.serving.tls import Tls, checked

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """How a service is to be started: where it listens, with what certificate, and what belongs to this place."""

    host: str
    port: int
    tls: Tls | None
    place: Place


def add_options(parser: argparse.ArgumentParser) -> None:
    """The shared options."""
    parser.add_argument("--home", type=Path, help="state directory (default: as for `trimtab`)")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    parser.add_argument("--threads", type=int, help="threads of the runtime, instead of the release's own")
    parser.add_argument(
        "--processes", type=_processes, metavar="N", help="worker processes, 0, or auto, instead of the release's own"
    )
    parser.add_argument("--auth", action="store_true", help="only with a token (`trimtab tokens`)")
    parser.add_argument("--without-auth", action="store_true", help="listen beyond this machine all the same")
    parser.add_argument("--tls-certificate", type=Path, metavar="PEM")
    parser.add_argument("--tls-key", type=Path, metavar="PEM")
    parser.add_argument("--journal", metavar="JSON", help="what of the inputs the journal keeps, for every release")


def read_options(options: argparse.Namespace) -> Start:
    """What was asked for, checked.

    Raises:
        StateError: one of the two TLS files alone, or either unusable; `--journal` is none; auth both on and off;
            an address beyond this machine without auth, unless that was said.
    """
    if (options.tls_certificate is None) != (options.tls_key is None):
        raise StateError("a certificate needs its key, and a key its certificate", where="--tls-certificate, --tls-key")
    if options.auth and options.without_auth:
        raise StateError("contradict each other", where="--auth, --without-auth")
    tls = checked(options.tls_certificate, options.tls_key) if options.tls_key is not None else None
    _check_openness(options.host, options.auth, options.without_auth, tls)
    return Start(
        options.host,
        options.port,
        tls,
        Place(options.auth, _keeping(options.journal), options.threads, options.processes),
    )


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone; of a name only localhost is taken to be."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_openness(host: str, auth: bool, without_auth: bool, tls: Tls | None) -> None:
    if is_loopback(host):
        return
    if not auth and not without_auth:
        raise StateError(
            "would answer everybody who can reach it",
            where=f"--host {host}",
            fix="give --auth (with `trimtab tokens add`), or say --without-auth where something else guards it",
        )
    if not auth:
        _logger.warning("without auth: whoever reaches %s can score, label and read", host)
    elif tls is None:
        _logger.warning("auth without TLS on %s: who listens on the way reads the tokens", host)


def _processes(text: str) -> str | int:
    if text == "auto":
        return text
    if not (text.isascii() and text.isdigit() and int(text) <= MOST_PROCESSES):
        raise argparse.ArgumentTypeError(f"must be auto, or 0 to {MOST_PROCESSES}")
    return int(text)


def _keeping(text: str | None) -> Keeping | None:
    if text is None:
        return None
    try:
        return Keeping.from_text(text)
    except (ValueError, TypeError) as error:
        raise StateError(f"is not a serving.journal section: {error}", where="--journal") from None
