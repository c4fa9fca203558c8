"""Writes an alert into <home>/alerts.log, the Prefect UI and the ledger."""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from tasks.artifacts import artifact_key
from trimtab.ledger import Ledger
from trimtab.monitoring.policy import about
from trimtab.settings import Settings


@task(name="alert", task_run_name="write the alert", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2)
def write_alert(settings: Settings, name: str, subject: str, body: str) -> None:
    """The places people look at first, the ledger last: what is in the ledger has been said.

    Of one verdict there is one alert; of two runs at once the second meets a Conflict and is tried again.
    """
    ledger, entry, stream = Ledger(settings.ledger), {"subject": subject, "body": body}, f"alerts/{name}"
    head = ledger.head(stream)
    if body.startswith(about("")) and any(item.entry == entry for item in ledger.read(stream)):
        get_run_logger().info("said before: %s", subject)
        return
    with (settings.home / "alerts.log").open("a", encoding="utf-8") as log:
        line = " | ".join(part.replace("\n", " ") for part in (name, subject, body) if part)
        log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {line}\n")
    get_run_logger().warning("%s: %s", name, subject)
    create_markdown_artifact(
        key=artifact_key("alert", name), description=subject, markdown=f"# {subject}\n\n{name}\n\n{body}\n"
    )
    ledger.record(stream, entry, expect_seq=head)
