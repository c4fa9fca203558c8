"""The watch's stages as tasks: collect, judge, record, publish."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.logging import get_run_logger
from prefect.states import Completed

from tasks.artifacts import artifact_key, page_url
from tasks.audit import audit_url, renew_audit
from tasks.edges import after, ended, quoted
from tasks.events import EVENTS
from trimtab.errors import RegistryError, TrimtabError
from trimtab.journal import reader
from trimtab.journal.compact import compact
from trimtab.journal.window import Window
from trimtab.late_labels import late_windows
from trimtab.monitoring.judge import watched
from trimtab.monitoring.metrics import ALL, MACRO
from trimtab.monitoring.policy import Decision
from trimtab.monitoring.verdict import Verdict
from trimtab.monitoring.windows import answered
from trimtab.settings import Settings
from trimtab.store import os_lock, write_atomic
from trimtab.watch import Next, Watch


def open_watch(recipe: str, home: str) -> Watch:
    """The watch over the release that a recipe names."""
    return Watch(recipe, Settings.load(Path(home)).ensure_home())


def late(watch: Watch) -> list[Window]:
    """Judged windows that labels which came late open again."""
    state = collect_late(*quoted(watch), wait_for=after(watch, "compact", "catch up"), return_state=True)
    found: list[Window] = ended(watch, "late labels", state)
    return found


def collect(watch: Watch) -> Next:
    """The next window that can be judged, or why there is none."""
    state = collect_window(*quoted(watch), wait_for=after(watch, "compact", "catch up"), return_state=True)
    found: Next = ended(watch, "collect", state)
    return found


def judge(watch: Watch, window: Window) -> Verdict:
    """The verdict on a window."""
    wait_for = after(watch, "late labels", "collect")
    state = judge_window(*quoted(watch, window), wait_for=wait_for, return_state=True)
    verdict: Verdict = ended(watch, "judge", state)
    return verdict


def record(watch: Watch, verdict: Verdict) -> None:
    """Write the verdict down, before anything follows from it."""
    state = record_verdict(*quoted(watch, verdict), wait_for=after(watch, "judge"), return_state=True)
    ended(watch, "record", state)


def publish(watch: Watch, window: Window, verdict: Verdict) -> Decision:
    """Say what follows from the verdict."""
    wait_for = after(watch, "judge", "record")
    state = publish_verdict(*quoted(watch, window, verdict), wait_for=wait_for, return_state=True)
    decision: Decision = ended(watch, "publish", state)
    return decision


def tidy(watch: Watch) -> None:
    """Compact the journal."""
    ended(watch, "compact", compact_journal(*quoted(watch), return_state=True))


def said(message: str, found: dict[str, Any]) -> Any:
    """What a flow returns to be shown as ended with this message; who calls the flow gets `found`."""
    return Completed(message=message, data=found)


@task(name="collect", task_run_name="collect the next window", cache_policy=NO_CACHE)
def collect_window(watch: Watch) -> Next:
    """The next window that can be judged, or None with the reason, which also goes into the log."""
    found = watch.next_window()
    get_run_logger().info("%s: %s", watch.name, found.state)
    return found


@task(name="late labels", task_run_name="look for labels that came late", cache_policy=NO_CACHE)
def collect_late(watch: Watch) -> list[Window]:
    """Windows whose verdicts late labels can change, read again."""
    found = late_windows(watch)
    for lo, hi in found:
        get_run_logger().info("%s rows %d–%d: labels came after the verdict, it is judged again", watch.name, lo, hi)
    return [reader.window(watch.journal, lo, hi) for lo, hi in found]


@task(name="judge", task_run_name="judge the window", cache_policy=NO_CACHE)
def judge_window(watch: Watch, window: Window) -> Verdict:
    """The verdict on a window against the profile of the release that answered it."""
    verdict = watch.judge(window)
    get_run_logger().info("%s rows %d–%d: %s", watch.name, verdict.lo, verdict.hi, verdict.kind)
    for reason in verdict.reasons:
        get_run_logger().info("  %s", reason)
    return verdict


@task(name="record", task_run_name="record the verdict in the ledger", cache_policy=NO_CACHE)
def record_verdict(watch: Watch, verdict: Verdict) -> int:
    """Write the verdict into the ledger, before anything follows from it."""
    return watch.record(verdict)


@task(name="publish", task_run_name="publish the verdict", cache_policy=NO_CACHE)
def publish_verdict(watch: Watch, window: Window, verdict: Verdict) -> Decision:
    """Say what follows: an event first, then Evidently's page and snapshot, artifacts for the Prefect UI, MLflow.

    A healthy window has a page only where the recipe asks for it: drawing one takes seconds, the verdict does not.
    """
    decided = watch.decisions(verdict.digest)
    for one in decided:
        announce(watch, verdict, one)
    decision = decided[0]
    drawn = verdict.kind != "healthy" or watch.recipe.monitoring.report == "always"
    html, url = report(watch, window, verdict) if drawn else (None, None)
    create_markdown_artifact(
        key=artifact_key("verdict", watch.name),
        description=f"{watch.name}: {verdict.kind}",
        markdown=in_words(verdict, decision, url),
    )
    if url:
        create_link_artifact(
            key=artifact_key("evidently", watch.name),
            link=url,
            link_text=f"Evidently: {verdict.kind}",
            description=f"Evidently's report on rows {verdict.lo}–{verdict.hi} of {watch.name}",
        )
    into_mlflow(watch, verdict, html)
    renew_audit(watch)
    return decision


def announce(watch: Watch, verdict: Verdict, decision: Decision) -> None:
    """Emit the event that automations listen to; it is a hint, the ledger is the record."""
    get_run_logger().info("decision: %s (%s)", decision.action, decision.reason)
    if decision.action == "none":
        return
    emit_event(
        event=EVENTS[decision.action],
        resource={"prefect.resource.id": f"trimtab.release.{watch.name}", "prefect.resource.name": watch.name},
        payload={
            "verdict": verdict.digest,
            "kind": verdict.kind,
            "action": decision.action,
            "reason": decision.reason,
            "cause": decision.cause,
            "episode": decision.episode,
        },
    )


def report(watch: Watch, window: Window, verdict: Verdict) -> tuple[str, str | None]:
    """Evidently's page under the state directory's reports, its snapshot in the workspace; the page and its address."""
    from trimtab.monitoring.evidently_report import snapshot
    from trimtab.monitoring.workspace import add_to_workspace

    rows = answered(window, verdict.version)
    profile, reference = watch.reference(verdict.version)
    monitoring = watch.recipe.monitoring
    taken, html = snapshot(
        watched(rows, profile, watch.own),
        reference,
        profile,
        verdict,
        rows.label,
        min_labels=monitoring.window.min_labels,
        timestamp=datetime.fromtimestamp(int(window.time_ns[-1]) / 1e9, UTC),
    )
    with os_lock(watch.settings.locks / "evidently.lock", wait=True, what="the Evidently workspace"):
        add_to_workspace(watch.settings.evidently, watch.name, taken, profile.metric)
    name = f"{watch.name}/{page_name(verdict)}"
    write_atomic(watch.settings.reports / name, html.encode())
    return html, page_url(watch.settings, watch.recipe, name)


def page_name(verdict: Verdict) -> str:
    """File of a verdict's page; a window that late labels re-opened has one for each verdict."""
    again = f"-{verdict.revision}" if verdict.revision else ""
    return f"window-{verdict.lo}-{verdict.hi}{again}.html"


def shown_figures(verdict: Verdict) -> dict[str, float]:
    """Figures for MLflow: what decides, every other one over all rows or classes, the estimate and its error."""
    performance, estimated = verdict.performance, verdict.estimated
    figures = {
        f"monitoring_{figure.metric}": figure.interval.value
        for figure in verdict.figures
        if figure.of in (ALL, MACRO) and figure.interval is not None
    }
    if performance.accuracy is not None:
        figures[f"monitoring_{performance.metric or 'accuracy'}"] = performance.accuracy.value
    if estimated is not None and estimated.value is not None:
        figures[f"monitoring_{estimated.metric}_estimated"] = estimated.value.value
        if performance.accuracy is not None and performance.answer not in ("too_few_labels", "undefined"):
            figures["monitoring_estimate_error"] = estimated.value.value - performance.accuracy.value
    return figures


def into_mlflow(watch: Watch, verdict: Verdict, html: str | None) -> None:
    """Evidently's page, if there is one, and the window's figures, in the MLflow run that made the verdict's version.

    The verdict stands whether MLflow takes them or not, so a refusal is logged and not raised.
    """
    figures = {"monitoring_drifted_columns": float(len(verdict.drifted)), "monitoring_error_rate": verdict.error_rate}
    figures |= shown_figures(verdict) | _service_figures(verdict)
    try:
        # MLflow takes a second and a half to import: after the event, not before.
        from trimtab.registry.connection import mlflow_errors
        from trimtab.registry.tracking import Tracking

        tracking = Tracking(watch.settings.tracking_uri(), watch.settings.locks)
        with mlflow_errors(f"{watch.name} version {verdict.version}"):
            run_id = tracking.client.get_model_version(watch.name, verdict.version).run_id
        if not run_id:
            raise RegistryError("names no run that made it", where=f"{watch.name} version {verdict.version}")
        if html is not None:
            tracking.log_text(run_id, html, f"monitoring/{page_name(verdict)}")
        tracking.log_metrics(run_id, figures)
        if page := audit_url(watch):
            with mlflow_errors(watch.name):
                tracking.client.set_registered_model_tag(watch.name, "trimtab.audit", page)
    except (TrimtabError, OSError) as error:
        get_run_logger().warning("the window's report is not in MLflow: %s: %s", type(error).__name__, error)


def _service_figures(verdict: Verdict) -> dict[str, float]:
    """Latency of the window and what the service's process took, the latter beside MLflow's own system metrics."""
    service = verdict.service
    if service is None:
        return {}
    latency = {f"monitoring_{name}_ms": quantile.value for name, quantile in service.latency.items()}
    return {**latency, **{f"system/serving_{name}": value for name, value in service.resources.items()}}


@task(name="compact", task_run_name="compact the journal", cache_policy=NO_CACHE)
def compact_journal(watch: Watch) -> int:
    """Closed segments of the journal become Parquet, those of what challengers answered too; how many."""
    return compact(watch.journal) + compact(watch.challenger_journal)


def in_words(verdict: Verdict, decision: Decision, url: str | None) -> str:
    """The verdict as Markdown."""
    reasons = "\n".join(f"- {reason}" for reason in verdict.reasons)
    link = f"\n\n[Evidently report]({url})" if url else ""
    follows = "Nothing to do" if decision.action == "none" else decision.action.capitalize()
    return (
        f"# {verdict.kind}\n\nrows {verdict.lo}–{verdict.hi}, version {verdict.version}\n\n{reasons}\n\n"
        f"{follows}: {decision.reason}{link}\n"
    )
