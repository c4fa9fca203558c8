"""The typed client of a scoring service for our own programs, with the token and certificate they know of it."""

from __future__ import annotations

from pathlib import Path

from trimtab.asking import own_token, pinned
from trimtab.client import ScoringClient
from trimtab.errors import StateError
from trimtab.settings import Settings


def own_client(settings: Settings, name: str, timeout_s: float = 30.0, retries: int = 3) -> ScoringClient:
    """A client of the service that answers under this name.

    Raises:
        StateError: there is none; its certificate or the token cannot be used.
    """
    url = settings.scoring_for(name)
    if url is None:
        raise StateError("no scoring service for it", where=name, fix="start one with `trimtab up RECIPE`")
    certificate = settings.scoring_certificates.get(name)
    verify = pinned(Path(certificate)) if certificate else True
    return ScoringClient(url, own_token(settings), timeout_s, retries, verify=verify)
