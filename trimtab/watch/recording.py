"""Verdicts are written down once: the stream `verdicts/<name>` of the ledger, and how far it has come."""

from __future__ import annotations

from trimtab.errors import Conflict
from trimtab.monitoring.revisions import replaced_by, standing
from trimtab.monitoring.verdict import Verdict
from trimtab.watch.known import Known


class Recording(Known):
    """Writes verdicts down; of two monitors at once one wins."""

    def position(self) -> tuple[int, int]:
        """Offset up to which the journal was judged or passed over, and the stream's head."""
        entries = self.ledger.read(f"verdicts/{self.name}")
        # A window that late labels re-opened is recorded again, after later ones.
        return (max(int(item.entry["hi"]) for item in entries), entries[-1].seq) if entries else (0, 0)

    def record(self, verdict: Verdict) -> int:
        """Write the verdict down, with what it takes to make it again; two monitors at once: one wins.

        Raises:
            Conflict: another monitor judged this window first.
        """
        _, head = self.position()
        stands = replaced_by(standing(self.verdicts()), (verdict.lo, verdict.hi))
        if verdict.replaces != (None if stands is None else stands.digest):
            what = f"rows {verdict.lo} to {verdict.hi} were judged meanwhile"
            raise Conflict(what, where=f"verdicts/{self.name}", fix="judge them anew")
        entry = {"verdict": verdict.to_json(), "digest": verdict.digest, "lo": verdict.lo, "hi": verdict.hi}
        made_with = {"recipe": str(self.path.resolve()), "monitoring": self.recipe.monitoring.model_dump(mode="json")}
        return self.ledger.record(f"verdicts/{self.name}", {**entry, **made_with}, expect_seq=head)
