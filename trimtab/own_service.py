"""The client that our own programs ask the state directory's scoring services with."""

from __future__ import annotations

import os

from trimtab.client import ScoringClient
from trimtab.errors import StateError
from trimtab.settings import Settings

TOKEN = "TRIMTAB_TOKEN"  # of the environment: an argument would be stored by Prefect, and shown by `ps`


def own_client(settings: Settings, name: str, timeout_s: float = 30.0, retries: int = 3) -> ScoringClient:
    """A client of the service that answers under this name.

    Raises:
        StateError: there is none.
    """
    url = settings.scoring_for(name)
    if url is None:
        raise StateError("no scoring service for it", where=name, fix="start one with `trimtab up RECIPE`")
    return ScoringClient(url, os.environ.get(TOKEN) or None, timeout_s, retries)
