"""An alert: the ledger, a log file, an artifact in the Prefect UI, and whom the recipe's `monitoring.alerts` names."""

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
    cause: Annotated[str, described("What it is about; of one cause there is one alert, not one a window.")] = "",
    episode: Annotated[str, described("Identity of what is going on; it has one alert.")] = "",
) -> None:
    """Write an alert where people look for it."""
    write_alert(Settings.load().ensure_home(), name, subject, body, cause, episode)
