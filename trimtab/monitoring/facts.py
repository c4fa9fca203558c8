"""What a decision rests on besides the verdicts: champion, promotions, reactions, what people said and were told."""

from __future__ import annotations

from dataclasses import dataclass, field

from trimtab.monitoring.breaker import Reaction


@dataclass(frozen=True)
class Facts:
    """What is so at the moment of deciding; times are seconds since the epoch.

    Attributes:
        champion_version: the version that serves. previous_version: the way back; None where there is none.
        promoted_at: when what serves was let serve; None if that is not known.
        rolled_back: whether that was a rollback, after which there is nothing to go back from.
        reactions: of this release, oldest first.
        approved: digests of verdicts whose reaction a person has approved.
        proposed: episodes of which a reaction was proposed to a person, who may still agree.
        expired: digests of verdicts whose proposed reaction nobody approved in time.
        said: episodes that have their alert.
        closed_at: when a person last closed the circuit breaker.
    """

    champion_version: str
    promoted_at: float | None = None
    previous_version: str | None = None
    rolled_back: bool = False
    reactions: tuple[Reaction, ...] = ()
    approved: frozenset[str] = field(default_factory=frozenset)
    proposed: frozenset[str] = field(default_factory=frozenset)
    expired: frozenset[str] = field(default_factory=frozenset)
    said: frozenset[str] = field(default_factory=frozenset)
    closed_at: float | None = None

    def of(self, digest: str) -> Reaction | None:
        """The reaction to a verdict."""
        return next((reaction for reaction in self.reactions if reaction.verdict == digest), None)

    @property
    def last_reaction_at(self) -> float | None:
        """When the last one was started."""
        return self.reactions[-1].started_at if self.reactions else None
