"""TLS: certificate and key, seen to be there, whole, private and of each other before anything listens."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from trimtab.errors import StateError

SOON = timedelta(days=14)
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tls:
    """PEM files: the certificate, with what is between it and its root behind it, and its key."""

    certificate: Path
    key: Path


def checked(certificate: Path, key: Path) -> Tls:
    """The two, when a server can be started with them. One that expires within two weeks, or did, is logged.

    Raises:
        StateError: a file is missing or not PEM, the key is encrypted, can be read by others than its owner, or is of
            another certificate.
    """
    for path in (certificate, key):
        if not path.is_file():
            raise StateError("no such file", where=str(path), fix="correct serving.tls, or make it")
    try:
        mode = key.stat().st_mode
        if mode & 0o077:
            raise StateError("others can read it", where=str(key), fix=f"chmod 600 {key}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key, password=_encrypted)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise StateError(
                f"is not the key of {certificate}", where=str(key), fix="give the key that the certificate was made for"
            ) from None
        raise StateError(
            f"certificate and key cannot be read ({error.reason})", where=f"{certificate}, {key}", fix="both are PEM"
        ) from None
    except _Encrypted:
        raise StateError(
            "is encrypted, and nobody is there to type a password",
            where=str(key),
            fix="store it without one, readable by its owner alone",
        ) from None
    except OSError as error:
        raise StateError(f"cannot be read ({error.strerror})", where=f"{certificate}, {key}") from None
    _warn_of_end(certificate)
    return Tls(certificate, key)


class _Encrypted(Exception):
    """OpenSSL wants a password."""


def _encrypted() -> str:
    raise _Encrypted  # otherwise it would ask on the terminal


def _warn_of_end(certificate: Path) -> None:
    from cryptography.x509 import load_pem_x509_certificate

    end = load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    if end < datetime.now(UTC) + SOON:
        _logger.warning("the certificate %s ends on %s", certificate, end.isoformat(timespec="seconds"))
