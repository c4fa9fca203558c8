"""Writes an alert into <home>/alerts.log, the Prefect UI and the ledger, and says by an event that it was written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.logging import get_run_logger

from tasks.artifacts import artifact_key
from tasks.events import WRITTEN
from trimtab.ledger import Entry, Ledger, utc_now
from trimtab.monitoring.policy import about
from trimtab.monitoring.verdict import Verdict
from trimtab.settings import Settings

AGAIN_AFTER = timedelta(hours=1)  # of what has no episode, e.g. a monitor that fails with each tick
REASONS = 12


@task(name="alert", task_run_name="write the alert", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2)
def write_alert(settings: Settings, name: str, subject: str, body: str, cause: str = "", episode: str = "") -> None:
    """The places people look at first, the ledger last: what is in the ledger has been said.

    Of one cause there is one alert, not one a window; of two runs at once the second meets a Conflict and is tried
    again.
    """
    ledger, stream = Ledger(settings.ledger), f"alerts/{name}"
    entry = {"subject": subject, "body": body, "cause": cause, "episode": episode}
    head = ledger.head(stream)
    if said_before(ledger.read(stream), entry, utc_now()):
        get_run_logger().info("said before: %s", subject)
        return
    shown = evidence(settings, ledger, name, body)
    with (settings.home / "alerts.log").open("a", encoding="utf-8") as log:
        line = " | ".join(part.replace("\n", " ") for part in (name, subject, body) if part)
        log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {line}\n")
    get_run_logger().warning("%s: %s", name, subject)
    create_markdown_artifact(
        key=artifact_key("alert", name), description=subject, markdown=f"# {subject}\n\n{name}\n\n{shown}\n"
    )
    emit_event(
        event=WRITTEN,
        resource={"prefect.resource.id": f"trimtab.release.{name}", "prefect.resource.name": name},
        payload={"subject": f"{name}: {subject}", "body": shown},
    )
    ledger.record(stream, entry, expect_seq=head)


def said_before(entries: Sequence[Entry], entry: dict[str, Any], now: datetime) -> bool:
    """Whether an alert is in the ledger: of this episode, else the same one of a verdict, else this cause an hour ago.

    Args:
        entries: of the stream, oldest first. entry: the alert. now: with a time zone.
    """
    if entry["episode"]:
        return any(item.entry.get("episode") == entry["episode"] for item in entries)
    if entry["body"].startswith(about("")):
        same = ("subject", "body")
        return any(all(item.entry[key] == entry[key] for key in same) for item in entries)
    if not entry["cause"]:
        return False
    times = [datetime.fromisoformat(item.time) for item in entries if item.entry.get("cause") == entry["cause"]]
    return bool(times) and now - max(times) < AGAIN_AFTER


def evidence(settings: Settings, ledger: Ledger, name: str, body: str) -> str:
    """The body with what a reader needs: of a verdict its window, its reasons, and where its pages are."""
    if not body.startswith(about("")):
        return body
    digest = body.removeprefix(about(""))
    entries = [item.entry["verdict"] for item in ledger.read(f"verdicts/{name}") if item.entry.get("digest") == digest]
    if not entries:
        return body
    verdict = Verdict.from_json(entries[-1])
    reasons = list(verdict.reasons[:REASONS])
    if len(verdict.reasons) > REASONS:
        reasons.append(f"and {len(verdict.reasons) - REASONS} more")
    base = settings.scoring_for(name)
    pages = [f"window-{verdict.lo}-{verdict.hi}.html", "audit.html"] if base else []
    lines = [
        f"{verdict.kind}: rows {verdict.lo}–{verdict.hi}, version {verdict.version}",
        *(f"- {reason}" for reason in reasons),
        *(f"{base}/reports/{name}/{page}" for page in pages),
        body,
    ]
    return "\n".join(lines)
