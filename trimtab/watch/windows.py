"""The next window: rows of one version that can be judged, and those that can never be, passed over with a record."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from trimtab.journal import reader
from trimtab.journal.window import Window, has_label
from trimtab.monitoring.judge import ready
from trimtab.watch.recording import Recording


@dataclass(frozen=True)
class Next:
    """What the journal holds for the next verdict: a window that can be judged, or why there is none yet."""

    window: Window | None
    state: str


class Windows(Recording):
    """Finds what is to be judged next."""

    def next_window(self) -> Next:
        """The next window that can be judged; rows that can never fill one are passed over, with a record.

        A window holds rows of one version. Rows of a version followed by another one's before they fill a window are
        passed over.
        """
        size = self.recipe.monitoring.window.rows
        lo, head = self.position()
        end = reader.end(self.journal)
        while True:
            window = reader.window(self.journal, lo, min(end, lo + size))
            run = _run_length(np.asarray(window.version))
            if run == 0 or (run < size and lo + run == end):
                return Next(None, f"collecting: {run} of {size} rows")
            if run == size:
                return self._with_labels(window)
            why = f"version {window.version[0]} was replaced before it answered {size} rows"
            head = self.ledger.record(
                f"verdicts/{self.name}", {"passed_over": why, "lo": lo, "hi": lo + run}, expect_seq=head
            )
            lo += run

    def _with_labels(self, window: Window) -> Next:
        age = time.time() - int(window.time_ns[0]) / 1e9
        labelled = int(has_label(np.asarray(window.label)).sum())
        answer = ready(len(window.label), labelled, age, self.recipe.monitoring.window)
        if answer == "judge":
            return Next(window, "judge")
        return Next(None, f"waiting for labels: {labelled} of {self.recipe.monitoring.window.min_labels}")


def _run_length(versions: np.ndarray) -> int:
    """How many rows from the start have the same version as the first."""
    if len(versions) == 0:
        return 0
    other = np.flatnonzero(versions != versions[0])
    return int(other[0]) if len(other) else len(versions)
