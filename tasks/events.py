"""Names of our events: what tasks emit and automations listen to. Light, so that deploying imports no watch."""

from __future__ import annotations

# action of a decision → event
EVENTS = {
    "retrain": "trimtab.verdict.damage",
    "recompress": "trimtab.verdict.breach",
    "rollback": "trimtab.verdict.regression",
    "alert": "trimtab.verdict.alert",
}
WRITTEN = "trimtab.alert"  # an alert is written; notifications are sent on it
