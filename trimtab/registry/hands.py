"""What a hand in MLflow changed of a release name: what MLflow shows, held against the ledger. Pure; no mlflow import.

Promotions of ours are finished or undone from their intent first, so what still differs was done by somebody else. The
alias is the contract: where both halves were moved, it is meant. Example, version 3 serving by the ledger:

    champion → 4                     meant is 4, by the alias
    champion → 3, Production {3, 2}  meant is 2, by the stage
    champion → 3, Production {}      nothing is meant, by the stage: put back
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from trimtab.registry.challenges import Challenges
from trimtab.registry.promotions import Log, way_back
from trimtab.registry.shown import CHALLENGER, CHAMPION, PREVIOUS, PRODUCTION, Shown
from trimtab.registry.staging_log import Staging

# An intent younger than this may be a promotion that another machine, whose lock is not ours, is in the middle of.
PATIENCE = timedelta(seconds=60)


@dataclass(frozen=True)
class Hand:
    """What somebody set in MLflow.

    Attributes:
        half: "alias" or "stage".
        version: what it was set to; None where it was taken away.
    """

    half: str
    version: int | None


def seen(champion: int | None, shown: Shown) -> Hand | None:
    """What was set by hand; None if alias and stages say what the ledger says.

    Args:
        champion: what serves, by the ledger.
    """
    at = shown.aliases.get(CHAMPION)
    if at is not None and at != champion:
        return Hand("alias", at)
    others = [version for version, stage in shown.stages.items() if stage == PRODUCTION and version != champion]
    if others:  # of several the last one touched: it was not left over from the one before
        return Hand("stage", max(others, key=lambda version: (shown.touched.get(version, 0), version)))
    if at != champion:
        return Hand("alias", None)
    if champion is not None and shown.stages.get(champion) != PRODUCTION:
        return Hand("stage", None)
    return None


def differences(log: Log, challenges: Challenges, staging: Staging | None, shown: Shown) -> list[str]:
    """Why the record and MLflow have to be settled, in words; empty if they are in step.

    Args:
        staging: a move to a stage that was begun and not finished.
    """
    said = []
    if log.pending is not None:
        said.append(f"the {log.pending.kind} to version {log.pending.version} was cut short")
    if staging is not None:
        said.append(f"the move of version {staging.version} to {staging.to} was cut short")
    if challenges.pending is not None:
        said.append("a change of the challenger was cut short")
    if hand := seen(log.champion, shown):
        said.append(f"{hand.half} of {CHAMPION} at {hand.version}, the ledger says {log.champion}")
    back = way_back(log.serving)
    wanted = back if back in shown.stages else None
    for alias, version in ((PREVIOUS, wanted), (CHALLENGER, challenges.version)):
        if shown.aliases.get(alias) != version:
            said.append(f"alias {alias} at {shown.aliases.get(alias)}, the ledger says {version}")
    return said


def is_under_way(log: Log, challenges: Challenges, staging: Staging | None, now: datetime) -> bool:
    """Whether an intent is so young that whoever wrote it may still be carrying it out."""
    times = [intent.time for intent in (log.pending, challenges.pending, staging) if intent is not None]
    return any(now - datetime.fromisoformat(time) < PATIENCE for time in times)
