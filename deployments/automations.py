"""Automations of a recipe: a verdict starts a reaction, trouble raises an alert, a silent run is marked as crashed.

Created or updated by name, so ids stay. An event is a hint: what it starts looks at the ledger and the registry first,
and the scheduled monitor makes up for events that were lost. Imports Prefect: `deployments.environment.apply` comes
first.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from deployments.deploy import deployment_id
from deployments.environment import HEARTBEAT_S
from deployments.notify import automation_name, notification, notification_blocks
from deployments.prefect_api import prefect_client
from tasks.events import EVENTS
from trimtab.monitoring.policy import about
from trimtab.recipe.load import load_recipe
from trimtab.settings import Settings

REACT = {EVENTS[action] for action in ("retrain", "recompress", "rollback")}
ALERT = EVENTS["alert"]
FAILED = {f"prefect.flow-run.{name}" for name in ("Failed", "Crashed", "TimedOut")}
SILENCE_S = 3 * HEARTBEAT_S
TAGS = ["trimtab"]

Related = ResourceSpecification | dict[str, str | list[str]]


def automate(settings: Settings, recipe_path: Path, name: str) -> list[str]:
    """Create or update the automations of a deployed recipe.

    Args:
        name: of the recipe.

    Returns:
        Names of the automations.

    Raises:
        prefect.exceptions.ObjectNotFound: react/<name> or alert/<name> is not deployed.
        StateError: an environment variable that `monitoring.alerts` names is not set; nothing was changed.
    """
    blocks = notification_blocks(settings, name, load_recipe(recipe_path).monitoring.alerts)
    with prefect_client(settings) as client:
        react, alert = deployment_id(client, f"react/{name}"), deployment_id(client, f"alert/{name}")
        wanted = [
            reaction(name, react, {"recipe": str(recipe_path.resolve()), "home": str(settings.home)}),
            verdict_alert(name, alert),
            failure_alert(name, alert),
            silent_run(),
            *([notification(name, blocks)] if blocks else []),
        ]
        if not blocks:
            _remove(client, automation_name(name))
        for automation in wanted:
            _put(client, automation)
    return [automation.name for automation in wanted]


def watch_silence(settings: Settings) -> str:
    """Create or update the automation that marks a silent run as crashed; it is the same for every recipe."""
    with prefect_client(settings) as client:
        _put(client, silent_run())
    return silent_run().name


def reaction(name: str, react: UUID, parameters: dict[str, Any]) -> AutomationCore:
    """A verdict that calls for a reaction → react/<name>, with the verdict's digest from the event."""
    return AutomationCore(
        name=f"{name}: damage → react",
        description=f"On {', '.join(sorted(REACT))} of {name}: run react/{name} with the verdict's digest.",
        tags=TAGS,
        trigger=_on(REACT, match={"prefect.resource.id": f"trimtab.release.{name}"}),
        actions=[_run(react, {**parameters, "verdict": _jinja("{{ event.payload.verdict }}")})],
    )


def verdict_alert(name: str, alert: UUID) -> AutomationCore:
    """A verdict that only warns → alert/<name>."""
    subject = _jinja("{{ event.payload.cause or event.payload.kind }}: {{ event.payload.reason }}")
    body = _jinja(about("{{ event.payload.verdict }}"))
    return AutomationCore(
        name=f"{name}: verdict → alert",
        description=f"On the event {ALERT} of {name} (a person is asked, nothing is retrained): run alert/{name}.",
        tags=TAGS,
        trigger=_on({ALERT}, match={"prefect.resource.id": f"trimtab.release.{name}"}),
        actions=[_run(alert, {"name": name, "subject": subject, "body": body, **_of_the_event()})],
    )


def failure_alert(name: str, alert: UUID) -> AutomationCore:
    """A run of ours Failed, TimedOut or Crashed → alert/<name>."""
    subject = _jinja("{{ flow.name }} {{ flow_run.state.name }}: {{ flow_run.name }}")
    # Not {{ flow_run|ui_url }}: 3.9.1 registers that filter for notifications only, and the action fails when it fires.
    body = _jinja("{{ flow_run.state.message }}\nflow run {{ flow_run.id }}")
    cause = _jinja("{{ flow.name }} {{ flow_run.state.name }}")
    tagged = ("trimtab", name)
    tags: list[Related] = [
        {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{tag}"} for tag in tagged
    ]
    return AutomationCore(
        name=f"{name}: failed run → alert",
        description=f"When a flow run tagged trimtab and {name} is Failed, Crashed or TimedOut: run alert/{name}.",
        tags=TAGS,
        trigger=_on(FAILED, match={"prefect.resource.id": "prefect.flow-run.*"}, match_related=tags),
        actions=[_run(alert, {"name": name, "subject": subject, "body": body, "cause": cause})],
    )


def silent_run() -> AutomationCore:
    """A run that sent heartbeats and then nothing for three periods → Crashed.

    Not forced: the server itself refuses to make a run Crashed that has ended, so a heartbeat that arrives after the
    end does no harm.
    """
    ends = {f"prefect.flow-run.{name}" for name in ("Completed", "Cancelled", "Suspended", "Paused", "AwaitingRetry")}
    trigger = EventTrigger(
        posture=Posture.Proactive,
        match={"prefect.resource.id": "prefect.flow-run.*"},
        for_each={"prefect.resource.id"},
        after={"prefect.flow-run.heartbeat"},
        expect={"prefect.flow-run.heartbeat", *ends, *FAILED},
        threshold=1,
        within=timedelta(seconds=SILENCE_S),
    )
    message = f"No heartbeat for {SILENCE_S} s: its process is gone"
    return AutomationCore(
        name="silent run → crashed",
        description=f"When a flow run sends no heartbeat for {SILENCE_S} s after one: set its state to Crashed.",
        tags=TAGS,
        trigger=trigger,
        actions=[ChangeFlowRunState(name=None, force=False, state=StateType.CRASHED, message=message)],
    )


def _on(events: set[str], match: dict[str, Any], match_related: list[Related] | None = None) -> EventTrigger:
    """Fires once for each of the events."""
    return EventTrigger(
        posture=Posture.Reactive,
        expect=events,
        match=match,
        match_related=match_related or [],
        for_each={"prefect.resource.id"},
        threshold=1,
        within=timedelta(0),
    )


def _run(deployment: UUID, parameters: dict[str, Any]) -> RunDeployment:
    return RunDeployment(source="selected", deployment_id=deployment, parameters=parameters, job_variables=None)


def _of_the_event() -> dict[str, Any]:
    return {key: _jinja("{{ event.payload." + key + " or '' }}") for key in ("cause", "episode")}


def _jinja(template: str) -> dict[str, str]:
    return {"__prefect_kind": "jinja", "template": template}


def _put(client: SyncPrefectClient, wanted: AutomationCore) -> None:
    """Create it, or update it in place; one that a user switched off stays off."""
    found = client.read_automations_by_name(wanted.name)
    if not found:
        client.create_automation(wanted)
        return
    first, *twins = found
    client.update_automation(first.id, wanted.model_copy(update={"enabled": first.enabled}))
    for twin in twins:  # two `up` at once
        client.delete_automation(twin.id)


def _remove(client: SyncPrefectClient, name: str) -> None:
    for automation in client.read_automations_by_name(name):
        client.delete_automation(automation.id)
