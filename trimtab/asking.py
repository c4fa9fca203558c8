"""How our own programs ask a scoring service: with a token where there is one, and knowing its certificate.

The token is that of the environment (`TRIMTAB_TOKEN`), else the one `trimtab up` keeps for this purpose in
`<home>/serving-token`, readable by the owner of the state directory alone. It never travels as an argument, which
Prefect would store.
"""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path

import httpx

from trimtab.errors import StateError
from trimtab.settings import Settings

VARIABLE = "TRIMTAB_TOKEN"
_FIRST_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def token_file(settings: Settings) -> Path:
    """Where the token of our own programs lies."""
    return settings.home / "serving-token"


def own_token(settings: Settings) -> str | None:
    """The token our own programs send; None where there is none.

    Raises:
        StateError: as for `kept_token`.
    """
    return os.environ.get(VARIABLE) or kept_token(settings)


def kept_token(settings: Settings) -> str | None:
    """The token in the file; None where there is no file.

    Raises:
        StateError: the file cannot be read, or others can read it.
    """
    path = token_file(settings)
    try:
        mode, text = path.stat().st_mode, path.read_text().strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise StateError(f"cannot be read ({type(error).__name__})", where=str(path)) from None
    if mode & 0o077:
        raise StateError("others can read it", where=str(path), fix=f"chmod 600 {path}")
    return text


def scoring_client(settings: Settings, name: str, timeout_s: float = 30.0) -> httpx.Client:
    """A client of the service that serves a release; its requests are relative to the service's address.

    Loopback is reached without the proxy of the environment.

    Raises:
        StateError: no service of this release is known; its certificate or the token cannot be used.
    """
    url = settings.scoring_for(name)
    if url is None:
        raise StateError("no scoring service for it", where=name, fix="start one with `trimtab up RECIPE`")
    token = own_token(settings)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    certificate = settings.scoring_certificates.get(name)
    here = httpx.URL(url).host in ("127.0.0.1", "::1", "localhost")
    return httpx.Client(
        base_url=url,
        headers=headers,
        timeout=timeout_s,
        trust_env=not here,
        verify=pinned(Path(certificate)) if certificate else url.startswith("https"),
    )


def pinned(certificate: Path) -> ssl.SSLContext:
    """Trust this certificate and no other: it is asked for at an address that need not be in it, e.g. 127.0.0.1.

    Only the first of the file: those behind it are authorities, and what else they signed is not our service.

    Raises:
        StateError: it cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # so that it is trusted without its authority
    try:
        found = _FIRST_CERTIFICATE.search(certificate.read_text())
        context.load_verify_locations(cadata=found[0] if found else "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise StateError(f"is no certificate ({type(error).__name__})", where=str(certificate)) from None
    return context
