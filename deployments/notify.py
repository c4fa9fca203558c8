"""Whom alerts reach: Prefect notification blocks made from the recipe, and the automation that sends through them.

The recipe names environment variables; their values are read here, when the recipe is deployed, and kept by Prefect
as secrets of the blocks. Imports Prefect: `deployments.environment.apply` comes first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit
from uuid import UUID

from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.types import SecretDict
from pydantic import SecretStr

from tasks.artifacts import artifact_key
from tasks.events import WRITTEN
from trimtab.errors import StateError
from trimtab.settings import Settings

if TYPE_CHECKING:
    from trimtab.recipe.policy import Alerts, Email

TEXT = {"webhook": {"subject": "{{subject}}", "body": "{{body}}"}, "slack": {"text": "*{{subject}}*\n{{body}}"}}
# Scheme of the server's address → scheme and mode of Apprise's.
SMTP = {"smtp": ("mailto", "insecure"), "smtp+starttls": ("mailtos", "starttls"), "smtps": ("mailtos", "ssl")}


def automation_name(name: str) -> str:
    """Name of a recipe's notification automation."""
    return f"{name}: alert → notify"


def notification_blocks(settings: Settings, name: str, alerts: Alerts) -> dict[str, UUID]:
    """Create or update the blocks of a recipe: "webhook", "slack", "email" → id of its block document.

    Raises:
        StateError: an environment variable is not set, or what it holds is no address; its value is not shown.
    """
    found: dict[str, UUID] = {}
    addresses = {kind: address(kind, variable) for kind, variable in alerts.variables().items()}
    with temporary_settings({PREFECT_API_URL: settings.prefect_api_url}):
        for kind, where in addresses.items():
            block = mail(alerts.email, where) if kind == "email" and alerts.email else webhook(kind, name, where)
            identity = block.save(artifact_key(kind, name), overwrite=True)
            found[kind] = UUID(str(identity))
    return found


def address(kind: str, variable: str) -> str:
    """The address that an environment variable holds.

    Raises:
        StateError: it is not set, or holds none of this kind.
    """
    value = os.environ.get(variable, "").strip()
    where = f"monitoring.alerts.{kind}: {variable}"
    if not value:
        raise StateError(
            "this environment variable is not set",
            where=where,
            fix=f"export {variable}=… before `trimtab up RECIPE`, or take monitoring.alerts.{kind} out of the recipe",
        )
    wanted = tuple(SMTP) if kind == "email" else ("http", "https")
    parsed = urlsplit(value)
    if parsed.scheme not in wanted or not parsed.hostname:
        forms = ", ".join(f"{one}://" for one in wanted)
        raise StateError(
            f"this environment variable holds no address that begins with {forms}", where=where, fix="correct its value"
        )
    return value


def webhook(kind: str, name: str, where: str) -> CustomWebhookNotificationBlock:
    """A block that posts JSON; the address is one of its secrets, since it often is a key by itself.

    Slack too, in the form its incoming webhooks take: Prefect's own Slack block knows hooks.slack.com alone, and
    cannot be tried against anything else.
    """
    return CustomWebhookNotificationBlock(
        name=f"{name} {kind}",
        url="{{address}}",
        json_data=dict(TEXT[kind]),
        secrets=SecretDict({"address": where}),
    )


def mail(email: Email, server: str) -> SlackWebhook:
    """A block that sends mail.

    Prefect 3.9 has none of its own for an SMTP server; its webhook block hands an address that is not Slack's to
    Apprise, which has. So the Prefect UI lists it as a Slack webhook.
    """
    parsed = urlsplit(server)
    scheme, mode = SMTP[parsed.scheme]
    login = ""
    if parsed.username:
        login = quote(parsed.username, safe="%") + (f":{quote(parsed.password, safe='%')}" if parsed.password else "")
        login += "@"
    port = f":{parsed.port}" if parsed.port else ""
    options = {"from": email.sender, "to": ",".join(email.to), "mode": mode, "format": "text"}
    return SlackWebhook(url=SecretStr(f"{scheme}://{login}{parsed.hostname}{port}/?{urlencode(options)}"))


def notification(name: str, blocks: Mapping[str, UUID]) -> AutomationCore:
    """An alert that was written → every block."""
    send = [
        SendNotification(
            block_document_id=block, subject="{{ event.payload.subject }}", body="{{ event.payload.body }}"
        )
        for block in blocks.values()
    ]
    return AutomationCore(
        name=automation_name(name),
        description=f"On the event {WRITTEN} of {name}: send it by {', '.join(blocks)}.",
        tags=["trimtab"],
        trigger=EventTrigger(
            posture=Posture.Reactive,
            expect={WRITTEN},
            match={"prefect.resource.id": f"trimtab.release.{name}"},
            for_each={"prefect.resource.id"},
            threshold=1,
            within=timedelta(0),
        ),
        actions=list(send),
    )
