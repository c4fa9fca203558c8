"""What a verdict shows, one cause at a time: policy, alerts and reports speak of causes, not of kinds of verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from trimtab.monitoring.columns import OUTPUT_COLUMNS, is_prediction
from trimtab.monitoring.verdict import Verdict

Cause = Literal[
    "data", "errors", "damage", "estimated", "drift", "latency", "memory", "size", "clients", "leak", "disk"
]
CAUSES: tuple[Cause, ...] = get_args(Cause)
COSTS: tuple[Cause, ...] = ("latency", "memory", "size")
SILENT = ("too_few_labels", "undefined")  # answers of the performance that say nothing


def causes(verdict: Verdict) -> dict[Cause, str]:
    """Cause → what shows it, in words, in the order in which a person should hear of them; empty for a healthy window.

    Drift is a cause of its own only where no damage was measured: with damage it is what explains it.
    """
    found: dict[Cause, str] = {}
    if verdict.kind == "data_quality":
        found["data"] = "the data are broken; nothing is retrained on them"
    elif verdict.confirmed:
        found["damage"] = f"{verdict.performance.name} is damaged, as was estimated before its labels came"
    elif verdict.damaged and verdict.drifted:
        found["damage"] = f"{some(verdict.drifted)} drifted and {verdict.performance.name} is damaged"
    elif verdict.damaged:
        found["damage"] = f"{verdict.performance.name} is damaged without drift"
    elif estimated_damage(verdict):
        found["estimated"] = f"{verdict.performance.name} is damaged by estimate; a retrain waits for its labels"
    if verdict.kind == "drift":
        found["drift"] = f"{some(verdict.drifted)} drifted without measured damage"
    if verdict.service is not None:
        for breach in verdict.service.breaches:
            found[breach.kind] = f"{found[breach.kind]}; {breach.detail}" if breach.kind in found else breach.detail
    return {cause: found[cause] for cause in CAUSES if cause in found}


def can_say(verdict: Verdict, cause: Cause) -> bool:
    """Whether a window could have shown the cause; one that could not counts neither for nor against it."""
    if cause in ("damage", "estimated"):
        return judged(verdict) and (
            verdict.performance.answer not in SILENT or (cause == "estimated" and verdict.estimated is not None)
        )
    if cause == "drift":
        return judged(verdict) and bool(verdict.columns)
    if cause == "data":
        return verdict.kind != "not_enough_rows"
    return verdict.service is not None


def judged(verdict: Verdict) -> bool:
    """Whether the verdict says something of the model."""
    return verdict.kind not in ("not_enough_rows", "data_quality")


def estimated_damage(verdict: Verdict) -> bool:
    """Whether damage is estimated where it could not be measured yet."""
    estimate = verdict.estimated
    silent = verdict.performance.answer in SILENT
    return judged(verdict) and silent and estimate is not None and estimate.answer == "damage"


def input_drifted(verdict: Verdict) -> bool:
    """Whether what came in drifted, not only what was answered: a bad release moves its answers by itself."""
    return any(name not in OUTPUT_COLUMNS and not is_prediction(name) for name in verdict.drifted)


def some(names: Sequence[str], limit: int = 3) -> str:
    """The first few names, and how many more."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
