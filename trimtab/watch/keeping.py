"""What must not be deleted yet: rows of the journal that somebody may still read."""

from __future__ import annotations

from trimtab.monitoring.revisions import standing
from trimtab.watch.recording import Recording


class Keeping(Recording):
    """Says what retention has to leave."""

    def needed_from(self) -> int:
        """Offset from which rows of the journal may still be needed.

        Those of windows that are not judged yet, of the last windows that late labels may re-open or a reaction may
        rest on, and of verdicts whose reaction waits for a person, who may still agree, or is not finished.
        """
        position, _ = self.position()
        monitoring, past, book = self.recipe.monitoring, self.verdicts(), self.book()
        waiting = {one.decision.verdict_digest for one in book.proposals} - {one.verdict for one in book.reactions}
        waiting -= book.expired
        begun = {one.verdict for one in book.reactions if one.finished_at is None}
        reach = max(monitoring.policy.n, monitoring.retraining.reach(1), monitoring.label_horizon)
        recent = standing(past)[-reach:]
        held = [one.lo for one in past if one.digest in begun | waiting]
        return min([position, *held, *(one.lo for one in recent)])
