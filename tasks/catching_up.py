"""What events lost or nobody did in time: reactions owed, alerts not said, proposals that expired."""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.deployments import run_deployment
from prefect.logging import get_run_logger

from tasks.alert import said_before
from tasks.edges import after, ended, quoted
from tasks.leftovers import about_to_begin, cancel_waiting
from trimtab import reactions
from trimtab.ledger import utc_now
from trimtab.monitoring.policy import about
from trimtab.watch import Watch


def catch_up(watch: Watch) -> str | None:
    """Start the reaction that an event lost, if there is one; the verdict's digest."""
    state = start_owed(*quoted(watch), wait_for=after(watch, "compact"), return_state=True)
    digest: str | None = ended(watch, "catch up", state)
    return digest


@task(name="catch up", task_run_name="catch up on what is owed", cache_policy=NO_CACHE)
def start_owed(watch: Watch) -> str | None:
    """Start the alert or reaction that an event lost or a kill cut short; the schedule makes certain what events make
    fast."""
    say_expired(watch)
    say_unsaid(watch)
    say_at_the_door(watch)
    digest = watch.owed()
    if digest is None or about_to_begin("react", str(watch.path)):
        return None
    get_run_logger().warning("verdict %s has no finished reaction: starting it", digest[:12])
    run_deployment(
        f"react/{watch.name}", parameters={"verdict": digest}, timeout=0, as_subflow=False, idempotency_key=None
    )
    return digest


def say_expired(watch: Watch) -> None:
    """Proposals that nobody approved in time: recorded, said once, and the flow run that waited is cancelled."""
    watch.expire()
    told = reactions.said(watch.ledger.read(reactions.alerts_stream(watch.name)))
    for proposal in watch.book().proposals:
        digest = proposal.decision.verdict_digest
        episode = f"expired-{digest[:16]}"
        if proposal.expired and episode not in told:
            get_run_logger().warning("%s has expired", proposal.in_words())
            cancel_waiting(proposal.run, "nobody approved it in time")
            subject = f"proposal: {proposal.in_words()} has expired: nobody approved it in time"
            _alert(watch, subject, about(digest), "proposal", episode, f"alert {episode}")


def say_unsaid(watch: Watch) -> None:
    """Run alert/<name> for what the newest verdict should have said and is not in the ledger."""
    for decision in watch.unsaid():
        get_run_logger().warning("verdict %s has no alert: saying it", decision.verdict_digest[:12])
        subject, body = f"{decision.cause}: {decision.reason}", about(decision.verdict_digest)
        _alert(watch, subject, body, decision.cause, decision.episode, f"alert {decision.episode}")


def say_at_the_door(watch: Watch) -> None:
    """Run alert/<name> for requests that are refused at the door: no window tells of them, no model is to blame."""
    for breach in watch.at_the_door():
        said = {"subject": f"{breach.kind}: {breach.detail}", "body": "counted by the service since the last window"}
        entry = {**said, "cause": breach.kind, "episode": ""}
        if not said_before(watch.ledger.read(reactions.alerts_stream(watch.name)), entry, utc_now()):
            get_run_logger().warning("%s: %s", breach.kind, breach.detail)
            _alert(watch, **entry, key=f"door {breach.kind}")


def _alert(watch: Watch, subject: str, body: str, cause: str, episode: str, key: str) -> None:
    """Run alert/<name>. The key: one that is on its way is not asked for again with each tick; one that failed is, an
    hour later."""
    run_deployment(
        f"alert/{watch.name}",
        parameters={"subject": subject, "body": body, "cause": cause, "episode": episode},
        timeout=0,
        as_subflow=False,
        idempotency_key=f"{key} {datetime.now(UTC):%Y-%m-%dT%H}",
    )
