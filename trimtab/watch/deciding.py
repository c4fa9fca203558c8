"""What the verdicts so far may start now: the policy, given what ledger and registry say."""

from __future__ import annotations

import time

from trimtab import reactions
from trimtab.monitoring.causes import causes
from trimtab.monitoring.policy import Decision, Facts, decisions
from trimtab.monitoring.revisions import with_successors
from trimtab.registry.promotions import ROLLBACK, read_log
from trimtab.watch.known import Known


class Deciding(Known):
    """Decides; it writes nothing down."""

    def facts(self) -> Facts:
        """What is so now: champion, promotion, reactions, alerts."""
        log, book = read_log(self.ledger, self.name), self.book()
        return Facts(
            champion_version=str(self.champion()),
            promoted_at=reactions.seconds(log.done[-1].time) if log.done else None,
            previous_version=None if log.previous is None else str(log.previous),
            rolled_back=bool(log.done) and log.done[-1].kind == ROLLBACK,
            reactions=book.reactions,
            approved=book.approved,
            proposed=frozenset(one.decision.episode for one in book.proposals if not one.expired),
            expired=book.expired,
            said=reactions.said(self.ledger.read(reactions.alerts_stream(self.name))),
            closed_at=book.closed_at,
        )

    def reacted(self) -> frozenset[str]:
        """Digests of the verdicts that have a reaction, and of those that replaced them since."""
        return with_successors((one.verdict for one in self.book().reactions), self.verdicts())

    def decide(self, digest: str | None = None) -> Decision:
        """What the verdicts so far may start now: about the newest one, or the one with this digest."""
        return self.decisions(digest)[0]

    def decisions(self, digest: str | None = None) -> tuple[Decision, ...]:
        """The same with the alerts that are due beside it."""
        if digest is not None and any(verdict.replaces == digest for verdict in self.verdicts()):
            return (Decision("none", "a later verdict on the same rows has replaced this one", digest),)
        monitoring = self.recipe.monitoring
        return decisions(self._until(digest), self.facts(), monitoring.policy, monitoring.mode, time.time())

    def settled(self) -> bool:
        """Whether the newest verdict calls for nothing, whatever the registry says; it need not be asked then."""
        past = self.verdicts()
        return not past or not causes(past[-1])

    def unsaid(self) -> list[Decision]:
        """Alerts that the newest verdict calls for and no event brought into the ledger."""
        return [] if self.settled() else [one for one in self.decisions() if one.action == "alert"]
