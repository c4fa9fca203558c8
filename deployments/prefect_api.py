"""The one door to Prefect's API: the address comes from our settings, not from whatever profile is active."""

from __future__ import annotations

from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import get_current_settings

from trimtab.errors import StateError
from trimtab.settings import Settings


def prefect_client(settings: Settings) -> SyncPrefectClient:
    """A client of the stack's Prefect server, to be used in a `with` block.

    Raises:
        StateError: no Prefect server is known.
    """
    if not settings.prefect_api_url:
        raise StateError(
            "no Prefect server is known",
            where=str(settings.home),
            fix="start the local servers with `trimtab up`, or set TRIMTAB_PREFECT_API_URL",
        )
    auth = get_current_settings().api.auth_string
    return SyncPrefectClient(settings.prefect_api_url, auth_string=auth.get_secret_value() if auth else None)
