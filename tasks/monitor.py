"""The watch's stages as tasks: collect, judge, record, publish; and what an event lost is started here."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.deployments import run_deployment
from prefect.events import emit_event
from prefect.logging import get_run_logger

from tasks.artifacts import artifact_key, page_url
from trimtab.journal.compact import compact
from trimtab.journal.window import Window
from trimtab.monitoring.judge import watched
from trimtab.monitoring.policy import Decision
from trimtab.monitoring.verdict import Verdict
from trimtab.monitoring.windows import answered
from trimtab.settings import Settings
from trimtab.store import os_lock, write_atomic
from trimtab.watch import Watch


def open_watch(recipe: str, home: str) -> Watch:
    """The watch over the release that a recipe names."""
    return Watch(recipe, Settings.load(Path(home)).ensure_home())


@task(name="collect", cache_policy=NO_CACHE)
def collect(watch: Watch) -> Window | None:
    """The next window that can be judged, or None with the reason in the log."""
    found = watch.next_window()
    get_run_logger().info("%s: %s", watch.name, found.state)
    return found.window


@task(name="judge", cache_policy=NO_CACHE)
def judge(watch: Watch, window: Window) -> Verdict:
    """The verdict on a window against the profile of the release that answered it."""
    verdict = watch.judge(window)
    get_run_logger().info("%s rows %d–%d: %s", watch.name, verdict.lo, verdict.hi, verdict.kind)
    for reason in verdict.reasons:
        get_run_logger().info("  %s", reason)
    return verdict


@task(name="record", cache_policy=NO_CACHE)
def record(watch: Watch, verdict: Verdict) -> int:
    """Write the verdict into the ledger, before anything follows from it."""
    return watch.record(verdict)


@task(name="publish", cache_policy=NO_CACHE)
def publish(watch: Watch, window: Window, verdict: Verdict) -> Decision:
    """Say what follows: an event first, then Evidently's page and snapshot, artifacts for the Prefect UI."""
    decision = watch.decide(verdict.digest)
    announce(watch, verdict, decision)
    url = report(watch, window, verdict)
    create_markdown_artifact(
        key=artifact_key("verdict", watch.name),
        description=f"{watch.name}: {verdict.kind}",
        markdown=in_words(verdict, decision, url),
    )
    if url:
        create_link_artifact(
            key=artifact_key("evidently", watch.name), link=url, link_text=f"Evidently: {verdict.kind}"
        )
    return decision


def announce(watch: Watch, verdict: Verdict, decision: Decision) -> None:
    """Emit the event that automations listen to; it is a hint, the ledger is the record."""
    get_run_logger().info("decision: %s (%s)", decision.action, decision.reason)
    if decision.action == "none":
        return
    kind = "damage" if decision.action == "retrain" else "alert"
    emit_event(
        event=f"trimtab.verdict.{kind}",
        resource={"prefect.resource.id": f"trimtab.release.{watch.name}", "prefect.resource.name": watch.name},
        payload={"verdict": verdict.digest, "kind": verdict.kind, "action": decision.action, "reason": decision.reason},
    )


def report(watch: Watch, window: Window, verdict: Verdict) -> str | None:
    """Evidently's page under the state directory's reports, its snapshot in the workspace; the page's address."""
    from trimtab.monitoring.evidently_report import add_to_workspace, snapshot

    rows = answered(window, verdict.version)
    profile, reference = watch.reference(verdict.version)
    monitoring = watch.recipe.monitoring
    taken, html = snapshot(
        watched(rows, profile),
        reference,
        profile,
        verdict,
        rows.label,
        alpha=monitoring.drift_alpha,
        min_labels=monitoring.window.min_labels,
        timestamp=datetime.fromtimestamp(int(window.time_ns[-1]) / 1e9, UTC),
    )
    with os_lock(watch.settings.locks / "evidently.lock", wait=True, what="the Evidently workspace"):
        add_to_workspace(watch.settings.evidently, watch.name, taken)
    name = f"{watch.name}/window-{verdict.lo}-{verdict.hi}.html"
    write_atomic(watch.settings.reports / name, html.encode())
    return page_url(watch.settings, watch.recipe, name)


@task(name="compact", cache_policy=NO_CACHE)
def tidy(watch: Watch) -> int:
    """Closed segments of the journal become Parquet; how many."""
    return compact(watch.journal)


@task(name="catch up", cache_policy=NO_CACHE)
def catch_up(watch: Watch) -> str | None:
    """Start the reaction that an event lost or a kill cut short; the schedule makes certain what events make fast."""
    digest = watch.owed()
    if digest is None:
        return None
    get_run_logger().warning("verdict %s has no finished reaction: starting it", digest[:12])
    run_deployment(
        f"react/{watch.name}", parameters={"verdict": digest}, timeout=0, as_subflow=False, idempotency_key=None
    )
    return digest


def in_words(verdict: Verdict, decision: Decision, url: str | None) -> str:
    """The verdict as Markdown."""
    reasons = "\n".join(f"- {reason}" for reason in verdict.reasons)
    link = f"\n\n[Evidently report]({url})" if url else ""
    return (
        f"# {verdict.kind}\n\nrows {verdict.lo}–{verdict.hi}, version {verdict.version}\n\n{reasons}\n\n"
        f"**{decision.action}**: {decision.reason}{link}\n"
    )
