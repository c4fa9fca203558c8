"""What a verdict may start: pure, from verdicts and facts to decisions, each with its reason.

    cause                                reaction                                          needs
    errors, or damage while the inputs   rollback                                          one clear window, right
      did not drift, after a promotion                                                       after the promotion
    damage with drift                    retrain                                           k of n windows
    damage that was estimated before     retrain                                           one window, its labels in
    damage without drift                 retrain                                           k, and at least 2, of n
    latency, memory, size                recompress                                        k of n windows
    broken data, drift alone, estimated  alert                                             one window
      damage, refused requests, a leak,
      a full disk; and each cause above until its reaction is due

One episode of a cause (see `episodes`) starts one reaction and one alert.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trimtab.candidate import digest_of
from trimtab.monitoring.breaker import Action, Reaction, failures
from trimtab.monitoring.causes import COSTS, Cause, can_say, causes, input_drifted
from trimtab.monitoring.episodes import Episode, episode
from trimtab.monitoring.facts import Facts
from trimtab.monitoring.revisions import standing
from trimtab.monitoring.verdict import Verdict
from trimtab.recipe.policy import Mode, Policy

__all__ = ["ACTS", "Action", "Decision", "Facts", "Mode", "Reaction", "about", "decide", "decisions"]
ACTS: tuple[Action, ...] = ("rollback", "retrain", "recompress")
DAY_S = 86_400.0
LEAST_WITHOUT_DRIFT = 2  # damage that nothing explains may be a bad batch of labels: one window is never enough


@dataclass(frozen=True)
class Decision:
    """One decision.

    Attributes:
        verdict_digest: of the verdict it is about; "" when there was none.
        cause, episode: what it is about; "" where nothing is to be done for another reason.
        needs_approval: a person has to agree before it is done (mode: propose).
    """

    action: Action
    reason: str
    verdict_digest: str
    cause: str = ""
    episode: str = ""
    needs_approval: bool = False

    @property
    def acts(self) -> bool:
        """Whether it changes what serves."""
        return self.action in ACTS

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        return asdict(self)


def about(digest: str) -> str:
    """How an alert names the verdict it is about, so that the alert of a verdict can be found again."""
    return f"verdict {digest}"


def observed(episode: str) -> str:
    """How the alert of a reaction that `mode: observe` leaves undone is kept apart from the alert of its cause."""
    return f"observe-{episode}"


def decide(verdicts: Sequence[Verdict], facts: Facts, policy: Policy, mode: Mode, now: float) -> Decision:
    """The decision that matters most, see `decisions`."""
    return decisions(verdicts, facts, policy, mode, now)[0]


def decisions(
    verdicts: Sequence[Verdict], facts: Facts, policy: Policy, mode: Mode, now: float
) -> tuple[Decision, ...]:
    """Decide on the newest verdict: at most one reaction, then an alert for every other cause that has none yet.

    A verdict that has a reaction gets no second one, and one about another version than the champion gets none.

    Args:
        verdicts: as recorded, oldest first, all of one release name; late labels may have added a second one of the
            same window.
        facts: the registry's and the ledger's answer at `now`.
        policy, mode: the recipe's `monitoring.policy` and `monitoring.mode`.
        now: seconds since the epoch.

    Returns:
        Never empty: what is not to be done is a decision too, with its reason. One that acts comes first.
    """
    if not verdicts:
        return (Decision("none", "there is no verdict yet", ""),)
    verdict = verdicts[-1]
    if verdict.version != facts.champion_version:
        reason = f"the verdict is about version {verdict.version}, version {facts.champion_version} serves"
        return (Decision("none", reason, verdict.digest),)
    shown = causes(verdict)
    if not shown:
        few = verdict.kind == "not_enough_rows"
        reason = "the window has not enough rows to say anything" if few else "the window is healthy"
        return (Decision("none", reason, verdict.digest),)
    if facts.of(verdict.digest) is not None:
        return (Decision("none", "this verdict has its reaction already", verdict.digest),)
    if verdict.digest in facts.expired:
        reason = "its reaction was proposed and not approved in time; a later window may ask anew"
        return (Decision("none", reason, verdict.digest),)
    case = _Case(verdicts, facts, policy, mode, now)
    reaction = case.reaction()
    taken = reaction.cause if reaction is not None and reaction.action != "none" else ""
    alerts = [alert for cause in shown if cause != taken and (alert := case.alert(cause)) is not None]
    if reaction is not None and reaction.action != "none":
        return (reaction, *alerts)
    silent = reaction or Decision("none", "said already: " + "; ".join(shown.values()), verdict.digest)
    return (*alerts, silent) if alerts else (silent,)


class _Case:
    """One verdict with everything it is decided by."""

    def __init__(self, verdicts: Sequence[Verdict], facts: Facts, policy: Policy, mode: Mode, now: float) -> None:
        self.verdict, self.facts, self.policy, self.mode, self.now = verdicts[-1], facts, policy, mode, now
        self.every = standing(verdicts)
        self.history = standing(verdicts, self.verdict.version)
        self.shown = causes(self.verdict)

    def alert(self, cause: Cause) -> Decision | None:
        """The alert of a cause; None where its episode has one."""
        found = episode(self.history, cause, self.policy.n)
        if found is None or {found.id, observed(found.id)} & self.facts.said or found.id in self.facts.proposed:
            return None
        return Decision("alert", self.shown[cause], self.verdict.digest, cause, found.id)

    def reaction(self) -> Decision | None:
        """What is to be done, or is not yet done and why; None where no cause calls for anything but an alert."""
        back = self._bad_release()
        if back is not None:
            return self._by_mode(back)
        if "data" in self.shown:
            return None
        since = max((one.end for one in self.facts.reactions), default=0)
        waiting: Decision | None = None
        for action, cause, needed in self._wanted():
            found = episode(self.history, cause, max(self.policy.n, needed), since)
            if found is None:
                continue
            decision = self._due(action, cause, needed, found)
            if decision.action != "none":
                return decision
            waiting = waiting or decision
        return waiting

    def _due(self, action: Action, cause: Cause, needed: int, found: Episode) -> Decision:
        if found.recent < needed:
            reason = f"{self.shown[cause]}: in {found.recent} of the {needed} windows that a {action} asks for"
            return Decision("none", reason, self.verdict.digest, cause, found.id)
        last = max(self.policy.n, needed)
        often = f", in {found.recent} of the last {last} windows" if found.recent > 1 else ""
        confirmed = ", as was estimated before its labels came" if self.verdict.confirmed and cause == "damage" else ""
        reason = f"{self.shown[cause]}{often}{confirmed}"
        return self._guarded(Decision(action, reason, self.verdict.digest, cause, found.id))

    def _wanted(self) -> Iterator[tuple[Action, Cause, int]]:
        """Which reactions the causes call for, the most urgent first: (action, cause, windows it needs)."""
        if "damage" in self.shown:
            yield "retrain", "damage", self._windows_of_damage()
        for cause in COSTS:
            if cause in self.shown:
                yield "recompress", cause, self.policy.k

    def _windows_of_damage(self) -> int:
        if self.verdict.confirmed:  # estimated before, and now measured: the wait for labels was the wait for evidence
            return 1
        return self.policy.k if self.verdict.drifted else max(LEAST_WITHOUT_DRIFT, self.policy.k)

    def _bad_release(self) -> Decision | None:
        """Roll back: the first windows of a fresh promotion fail, and what served before did not."""
        facts = self.facts
        if facts.previous_version is None or facts.rolled_back or not self._fresh():
            return None
        if "errors" in self.shown:
            cause: Cause = "errors"
        elif "damage" in self.shown and not input_drifted(self.verdict):
            cause = "damage"
        else:
            return None
        before = [v for v in self.every if v.version == facts.previous_version and can_say(v, cause)]
        if before and cause in causes(before[-1]):
            return None
        found = episode(self.history, cause, self.policy.n)
        if found is None:
            return None
        reason = f"{self.shown[cause]}, right after its promotion"
        return Decision("rollback", reason, self.verdict.digest, cause, found.id)

    def _fresh(self) -> bool:
        """Whether the verdict is of the first n windows after the promotion, none of which was healthy."""
        at = self.facts.promoted_at
        if at is None:
            return False
        since = [v for v in self.history if v.service is None or v.service.began_s >= at]
        places = [index for index, verdict in enumerate(since) if verdict.lo == self.verdict.lo]
        if not places or places[0] >= self.policy.n:
            return False
        return not any(verdict.kind == "healthy" for verdict in since[: places[0]])

    def _guarded(self, wanted: Decision) -> Decision:
        """What holds a reaction back; a person's approval overrules all but a reaction that runs."""
        if any(reaction.finished_at is None for reaction in self.facts.reactions):
            return self._not_yet(wanted, "another reaction is not finished")
        if wanted.verdict_digest in self.facts.approved:
            return wanted
        if self.mode == "act" and (held := self._breaker(wanted) or self._daily(wanted)) is not None:
            return held
        wait = self._cooldown_left()
        if wait > 0 and self.mode != "observe":
            return self._not_yet(wanted, f"cool-down for another {wait:.0f} s")
        return self._by_mode(wanted)

    def _by_mode(self, wanted: Decision) -> Decision:
        if wanted.verdict_digest in self.facts.approved or self.mode == "act":
            return wanted
        words = f"{wanted.action}: {wanted.reason}"
        if self.mode == "observe":
            return self._once("alert", f"observing only, otherwise: {words}", wanted.cause, observed(wanted.episode))
        if wanted.episode in self.facts.proposed:
            return self._not_yet(wanted, "a person has been asked to approve it")
        return Decision(
            wanted.action, wanted.reason, wanted.verdict_digest, wanted.cause, wanted.episode, needs_approval=True
        )

    def _breaker(self, wanted: Decision) -> Decision | None:
        limit = self.policy.breaker.failures
        count = failures(self.facts.reactions, self.every, self.policy.n, self.facts.closed_at)
        if count < limit:
            return None
        last = self.facts.reactions[-1]
        reason = (
            f"the circuit breaker is open: the last {count} reactions did not help; "
            f"`trimtab breaker NAME --close` closes it. Otherwise: {wanted.action}: {wanted.reason}"
        )
        return self._once("alert", reason, "breaker", digest_of(["breaker", last.verdict])[:16])

    def _daily(self, wanted: Decision) -> Decision | None:
        today = [one for one in self.facts.reactions if one.started_at > self.now - DAY_S]
        if len(today) < self.policy.max_reactions_per_day:
            return None
        reason = f"{len(today)} reactions in 24 hours, no more are allowed; otherwise: {wanted.action}: {wanted.reason}"
        return self._once("alert", reason, "budget", digest_of(["budget", today[-1].verdict])[:16])

    def _cooldown_left(self) -> float:
        times = [at for at in (self.facts.last_reaction_at, self.facts.promoted_at) if at is not None]
        return max(times) + self.policy.cooldown_s - self.now if times else 0.0

    def _once(self, action: Action, reason: str, cause: str, key: str) -> Decision:
        """An alert, or nothing where it was said."""
        said = key in self.facts.said
        return Decision("none" if said else action, reason, self.verdict.digest, cause, key)

    def _not_yet(self, wanted: Decision, why: str) -> Decision:
        reason = f"{why}, then: {wanted.action}: {wanted.reason}"
        return Decision("none", reason, self.verdict.digest, wanted.cause, wanted.episode)
