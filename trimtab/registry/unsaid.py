"""Which hands in MLflow call for an alert that was not given yet: pure, from the ledger's streams. No mlflow import.

The entry of the promotion log comes first and is the cause; the alert names it, so a crash in between loses none and
gives none twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from trimtab.ledger import Entry
from trimtab.registry.promotions import BY_HAND

AGAIN_AFTER = timedelta(hours=1)  # a script that sets the same version every minute is one cause
CAUSE = "hand in MLflow"


@dataclass(frozen=True)
class Alert:
    """What is to be said.

    Attributes:
        subject: one line. body: why, and what to do.
        episode: identity of the hand; of one there is one alert.
    """

    subject: str
    body: str
    episode: str


def unsaid(name: str, entries: Sequence[Entry], alerts: Sequence[Entry]) -> list[Alert]:
    """Alerts that are owed, oldest first.

    Args:
        entries: of stream "promotions/<name>". alerts: of "alerts/<name>".
    """
    said = {item.entry.get("episode") for item in alerts}
    owed, last = [], dict[tuple[object, ...], tuple[datetime, str]]()
    for item in entries:
        alert = _alert(name, item)
        if alert is None:
            continue
        key, now = (item.entry["act"], _version(item), item.entry["why"]), datetime.fromisoformat(item.time)
        before, episode = last.get(key, (None, ""))
        again = before is not None and now - before < AGAIN_AFTER
        last[key] = (now, episode if again else alert.episode)
        if not again and alert.episode not in said:
            owed.append(alert)
    return owed


def _alert(name: str, item: Entry) -> Alert | None:
    entry = item.entry
    if "who" not in entry:  # of before there were alerts of hands
        return None
    if entry["act"] == "restored" and entry["refused"] is not None:
        serves = f"version {entry['version']} serves" if entry["version"] is not None else "nothing serves"
        subject = f"version {entry['refused']} was put in Production {BY_HAND} and is not served; {serves}"
        fix = f"register it with `trimtab release`, or promote another with `trimtab promote {name} VERSION`"
    elif entry["act"] == "lost":
        subject = f"nothing is champion: version {entry['version']} was taken away {BY_HAND}"
        fix = (
            f"`trimtab rollback {name}` or `trimtab promote {name} VERSION`; what a service has loaded goes on serving"
        )
    else:
        return None
    return Alert(subject, f"why: {entry['why']}\nto do: {fix}", f"hand-{name}-{item.seq}")


def _version(item: Entry) -> object:
    return item.entry["refused"] if item.entry["act"] == "restored" else item.entry["version"]
