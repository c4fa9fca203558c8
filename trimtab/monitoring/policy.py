"""What a verdict may start: pure, from verdicts and facts to one decision with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from trimtab.monitoring.verdict import Verdict

Action = Literal["none", "alert", "retrain", "rollback", "recompress"]
Mode = Literal["act", "observe"]


@dataclass(frozen=True)
class Facts:
    """What is so at the moment of deciding; times are seconds since the epoch.

    Attributes:
        champion_version: the version that serves.
        promoted_at: when it was promoted; None if that is not known.
        last_reaction_at: when the last retrain, rollback or recompress was started; an alert is none of them.
        reacted: digests of verdicts that have a reaction already.
    """

    champion_version: str
    promoted_at: float | None = None
    last_reaction_at: float | None = None
    reacted: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Decision:
    """One decision; `verdict_digest` is "" when there was no verdict."""

    action: Action
    reason: str
    verdict_digest: str

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        return asdict(self)


def about(digest: str) -> str:
    """How an alert names the verdict it is about, so that the alert of a verdict can be found again."""
    return f"verdict {digest}"


def decide(verdicts: Sequence[Verdict], facts: Facts, mode: Mode, cooldown_s: float, now: float) -> Decision:
    """Decide on the newest verdict.

    Drift alone → alert. Drift with measured damage → retrain. Damage alone → alert, and retrain when the window before
    it shows damage too, or when it was estimated before it was measured. Damage that is only estimated → alert. Data
    errors → alert, never retrain. A verdict that has a reaction gets no second one, one about another version than the
    champion gets none, and a retrain waits for the cool-down; an alert does not.

    Args:
        verdicts: oldest first, all of one release name.
        facts: the registry's and the ledger's answer at `now`.
        mode: "observe": alerts only; says what would have been done.
        cooldown_s: least seconds between two acts (and after a promotion).
        now: seconds since the epoch.
    """
    if not verdicts:
        return Decision("none", "there is no verdict yet", "")
    verdict = verdicts[-1]
    if verdict.digest in facts.reacted:
        return Decision("none", "this verdict has its reaction already", verdict.digest)
    if verdict.version != facts.champion_version:
        reason = f"the verdict is about version {verdict.version}, version {facts.champion_version} serves"
        return Decision("none", reason, verdict.digest)
    action, reason = _wanted(verdicts)
    if action == "alert" and verdict.kind == verdict.replaced_kind:
        return Decision("none", f"said before its late labels came: {reason}", verdict.digest)
    if action in ("none", "alert"):
        return Decision(action, reason, verdict.digest)
    if mode == "observe":
        return Decision("alert", f"observing only, otherwise: {action}: {reason}", verdict.digest)
    wait = _cooldown_left(facts, cooldown_s, now)
    if wait > 0:
        return Decision("none", f"cool-down for another {wait:.0f} s, then: {action}: {reason}", verdict.digest)
    return Decision(action, reason, verdict.digest)


def _wanted(verdicts: Sequence[Verdict]) -> tuple[Action, str]:
    verdict = verdicts[-1]
    if verdict.kind == "healthy":
        return "none", "the window is healthy"
    if verdict.kind == "not_enough_rows":
        return "none", "the window has not enough rows to say anything"
    if verdict.kind == "data_quality":
        return "alert", "the data are broken; nothing is retrained on them"
    if verdict.kind == "drift":
        return "alert", f"{_some(verdict.drifted)} drifted without measured damage"
    if verdict.kind == "drift+damage":
        return "retrain", f"{_some(verdict.drifted)} drifted and {verdict.performance.name} is damaged"
    if verdict.kind == "damage_estimated":
        name = verdict.performance.name if verdict.estimated is None else verdict.estimated.name
        return "alert", f"{name} is damaged by estimate; a retrain waits for labels that show it"
    if verdict.confirmed:
        return "retrain", f"{verdict.performance.name} is damaged, as was estimated before its labels came"
    if _damaged_before(verdicts):
        return "retrain", f"{verdict.performance.name} is damaged in two windows running"
    return "alert", f"{verdict.performance.name} is damaged without drift, in one window so far"


def _some(names: Sequence[str], limit: int = 3) -> str:
    """The first few names, and how many more."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _damaged_before(verdicts: Sequence[Verdict]) -> bool:
    verdict = verdicts[-1]
    before = [other for other in verdicts[:-1] if other.version == verdict.version and other.hi <= verdict.lo]
    return bool(before) and before[-1].damaged


def _cooldown_left(facts: Facts, cooldown_s: float, now: float) -> float:
    times = [at for at in (facts.last_reaction_at, facts.promoted_at) if at is not None]
    return max(times) + cooldown_s - now if times else 0.0
