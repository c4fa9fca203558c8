"""An alert that needs no service from outside: the ledger, a log file, and an artifact in the Prefect UI."""

from __future__ import annotations

from typing import Annotated

from prefect import flow

from tasks.alert import write_alert
from tasks.naming import described
from trimtab.settings import Settings


@flow(name="alert", flow_run_name="{subject}", log_prints=False)
def alert(
    name: Annotated[str, described("Name of the release it is about.")],
    subject: Annotated[str, described("One line.")],
    body: Annotated[str, described("The evidence.")] = "",
) -> None:
    """Write an alert where people look for it."""
    write_alert(Settings.load().ensure_home(), name, subject, body)
