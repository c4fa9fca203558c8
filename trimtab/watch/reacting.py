"""Reactions from proposal to end: one at a time, written down before they begin, taken up again after a kill."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args

from trimtab import reactions
from trimtab.errors import Conflict, StateError
from trimtab.journal import reader
from trimtab.monitoring.causes import causes
from trimtab.monitoring.policy import DAY_S, Decision
from trimtab.recompress import Figure, Recompress
from trimtab.store import os_lock
from trimtab.watch.deciding import Deciding


class Reacting(Deciding):
    """Begins and ends reactions in the stream `reactions/<name>` of the ledger, and knows which are owed."""

    @contextmanager
    def reacting(self) -> Iterator[None]:
        """One reaction of a name at a time.

        Raises:
            Conflict: one is running.
        """
        with os_lock(self.settings.locks / f"react-{self.name}.lock", wait=False, what=f"a reaction for {self.name}"):
            yield

    def propose(self, decision: Decision, run: str) -> None:
        """Write down that a person is asked, and which flow run waits, until the recipe's time is over."""
        reactions.propose(self.ledger, self.name, decision, run, time.time() + self._patience_s)

    def expire(self) -> list[reactions.Proposal]:
        """Write down which proposals nobody approved in time; those that expire now."""
        return reactions.expire(self.ledger, self.name, self._patience_s)

    @property
    def _patience_s(self) -> float:
        return self.recipe.monitoring.policy.proposal_expires_days * DAY_S

    def begin(self, decision: Decision, run: str) -> int:
        """Write down that a reaction starts, before it does.

        Raises:
            Conflict: another reaction started at the same moment.
        """
        stream = reactions.stream(self.name)
        head = self.ledger.head(stream)
        if self.facts().of(decision.verdict_digest) is not None:
            return head
        entry = {"act": "started", "verdict": decision.verdict_digest, **decision.to_json(), "run": run}
        return self.ledger.record(stream, entry, expect_seq=head)

    def finish(
        self, decision: Decision, run: str, outcome: str, version: int | None, release: dict[str, Any] | None = None
    ) -> None:
        """Write down how a reaction ended.

        Args:
            version: what serves because of it; None where it changed nothing.
            release: summary of the release it made, if it made one.
        """
        entry: dict[str, Any] = {"act": "finished", "verdict": decision.verdict_digest, "run": run, "outcome": outcome}
        entry |= {"version": version, "end": reader.end(self.journal)}
        if release is not None:
            entry["release"] = release
        self.ledger.record(reactions.stream(self.name), entry, expect_seq=None)

    def unfinished(self, digest: str | None = None) -> Decision | None:
        """The reaction that was begun and not finished (of this verdict, or any); only true while none is running."""
        entries = [item.entry for item in self.ledger.read(reactions.stream(self.name))]
        finished = {entry["verdict"] for entry in entries if entry["act"] == "finished"}
        for entry in entries:
            if entry["act"] == "started" and entry["verdict"] not in finished and digest in (None, entry["verdict"]):
                return reactions.decision_of(entry)
        return None

    def owed(self) -> str | None:
        """Digest of a verdict whose reaction no event started, or that a kill cut short; None if nothing is owed."""
        try:
            with self.reacting():
                cut_short = self.unfinished()
                if cut_short is not None:
                    return cut_short.verdict_digest
                for digest in self._approved_and_not_begun():
                    if self.decide(digest).acts:
                        return digest
                if self.settled():
                    return None
                decision = self.decide()
                return decision.verdict_digest if decision.acts else None
        except Conflict:
            return None

    def _approved_and_not_begun(self) -> list[str]:
        book = self.book()
        return sorted(book.approved - {reaction.verdict for reaction in book.reactions})

    def done_already(self, decision: Decision) -> int | None:
        """What serves, if it does because of this decision's reaction (killed before it said so)."""
        version = self.champion()
        if version is None:
            return None
        if decision.action == "rollback":
            return version if str(version) != self.verdict(decision.verdict_digest).version else None
        facts = self.release_facts(version)
        made_by = facts.get("recompressed") if decision.action == "recompress" else facts.get("verdict")
        return version if made_by == decision.verdict_digest else None

    def recompression(self, digest: str) -> tuple[Recompress, str | None]:
        """What a recompression for a verdict is about, and the verdict whose rows the champion was trained on, if any.

        Raises:
            StateError: no such verdict, it found nothing too costly, or nothing serves.
        """
        found = causes(self.verdict(digest))
        figures: tuple[Figure, ...] = get_args(Figure)
        figure = next((one for one in figures if one in found), None)
        version = self.champion()
        if figure is None or version is None:
            what = "found nothing too costly" if figure is None else "is about a release of which nothing serves"
            raise StateError(f"verdict {digest[:12]} {what}", where=self.name, fix="see `trimtab status`")
        facts = self.release_facts(version)
        return Recompress(digest, figure, facts["figures"]["size_ratio"]), facts.get("verdict")
