"""Rows of the journal that a retrain learns from."""

from __future__ import annotations

import numpy as np

from trimtab.journal import reader
from trimtab.journal.window import has_label
from trimtab.monitoring.causes import causes
from trimtab.monitoring.revisions import standing
from trimtab.retrain import NewRows, divide, together
from trimtab.watch.known import Known


class Learning(Known):
    """Reads what the windows behind a verdict teach."""

    def new_rows(self, digest: str) -> NewRows:
        """Labelled rows of the windows that a verdict rests on, divided into training and held-out rows.

        These are its own window and, of the last `retraining.windows` of the same version, those that show damage too.

        Raises:
            DataError: too few labelled rows, or inputs were not journalled. StateError: there is no such verdict.
        """
        verdict = self.verdict(digest)
        monitoring = self.recipe.monitoring
        past = standing(self._until(digest), verdict.version)[-monitoring.retraining.reach(monitoring.policy.n) :]
        places = [(one.lo, one.hi) for one in past if one.lo != verdict.lo and "damage" in causes(one)]
        places.append((verdict.lo, verdict.hi))
        parts = [self._labelled(lo, hi) for lo, hi in places]
        inputs, labels, ids = together(parts, f"verdict {digest[:12]}")
        return divide(inputs, labels, ids, monitoring.holdout, digest, monitoring.retraining.weight, places)

    def _labelled(self, lo: int, hi: int) -> tuple[dict[str, np.ndarray], np.ndarray, list[str]]:
        """Inputs, labels and ids of the rows from lo to hi that can be trained on."""
        window = reader.window(self.journal, lo, hi)
        keep = has_label(np.asarray(window.label)) & (np.asarray(window.status) < 400) & np.asarray(window.has_inputs)
        inputs = {name: np.asarray(values)[keep] for name, values in (window.inputs or {}).items()}
        ids = [f"{request}/{row}" for request, row in zip(window.request_id[keep], window.row[keep], strict=True)]
        return inputs, np.asarray(window.label)[keep], ids
