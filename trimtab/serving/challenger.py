"""The challenger beside the champion: loaded, tried as its own release says, compared, and never in the champion's way.

It has an engine, a journal and threads of its own. A challenger that hangs, fails or is slow fills only its own queue;
requests that were its share are answered by the champion then, unless they asked for the challenger by name.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trimtab.journal.comparisons import Comparisons
from trimtab.journal.outcomes import Outcome
from trimtab.journal.rows import LabelRow
from trimtab.journal.wal import Journal
from trimtab.serving.engine import Engine
from trimtab.serving.evidence import Rule
from trimtab.serving.failures import Busy
from trimtab.serving.golden import Predictor
from trimtab.serving.health import HANGING_S
from trimtab.serving.keeping import Keeper
from trimtab.serving.metrics import Metrics
from trimtab.serving.recording import Recorder
from trimtab.serving.release import Loaded
from trimtab.serving.routing import CHALLENGER
from trimtab.serving.shadow import Shadow
from trimtab.serving.trial import Trial
from trimtab.serving.trial_metrics import TrialMetrics

Array = np.ndarray
RESCUE_S = 5.0  # longest that the challenger is waited for where the champion could answer
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seat:
    """A challenger in memory.

    Attributes:
        trial: what reaches it. rule: what it must have shown to be promoted, None for nothing.
        shadow: runs copies and writes outcomes down.
    """

    loaded: Loaded
    trial: Trial
    rule: Rule | None
    shadow: Shadow


class OneAtATime:
    """A predictor whose runtime takes one call at a time, for the two threads that call a challenger."""

    reentrant = True

    def __init__(self, predictor: Predictor) -> None:
        self.spec, self._predictor, self._lock = predictor.spec, predictor, threading.Lock()

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """As the predictor's, after the calls before it."""
        with self._lock:
            return self._predictor.predict(inputs)


class Challengers:
    """Holds the challenger of one service. `put` and `clear` are called by the thread that follows the registry.

    Args:
        journal_folder: where the rows that a challenger answers are journalled; apart from the champion's, because the
            watch judges runs of rows of one version. None where no rows are to be kept.
        comparisons: where outcomes are written down.
        champion_busy: whether a request waits for the champion.
        metrics: of the service. keeper: decides what of the inputs is journalled.
    """

    def __init__(
        self,
        journal_folder: Path | None,
        comparisons: Comparisons,
        champion_busy: Callable[[], bool],
        metrics: Metrics,
        keeper: Keeper,
    ) -> None:
        self.comparisons, self.metrics = comparisons, TrialMetrics(metrics.registry, metrics.registry_up)
        self.engine = Engine()
        self.recorder: Recorder | None = None
        self._journal_folder, self._service_metrics, self._keeper = journal_folder, metrics, keeper
        self._champion_busy = champion_busy
        self._journal: Journal | None = None
        self._seat: Seat | None = None

    @property
    def current(self) -> Seat | None:
        """The challenger; None where there is none."""
        return self._seat

    @property
    def version(self) -> str | None:
        """Its version."""
        seat = self._seat
        return None if seat is None else seat.loaded.version

    def put(self, loaded: Loaded) -> None:
        """Try a release from the next request on.

        Raises:
            StateError: what its release.json says of the trial cannot be read, or its journal cannot be opened.
        """
        section: Mapping[str, Any] = loaded.facts.get("serving", {})
        trial, rule = Trial.from_json(section), Rule.from_json(section)
        if trial.answers:
            self._open_journal()
        if not loaded.predictor.reentrant:
            loaded = replace(loaded, predictor=OneAtATime(loaded.predictor))
        if self.engine.longest_s > HANGING_S:
            self.engine = Engine()  # the thread of the challenger before hangs for ever; it is left to itself
        before = self._seat
        self._seat = Seat(loaded, trial, rule, Shadow(loaded, trial.tolerance, self._busy, self._record))
        if before is not None:
            before.shadow.stop()
        self.metrics.serve(loaded)
        self._service_metrics.watch(loaded.pool, CHALLENGER)

    def clear(self) -> None:
        """Try nothing any more; requests under way are answered."""
        before, self._seat = self._seat, None
        if before is not None:
            before.shadow.stop()
            _logger.warning("version %s is no challenger any more", before.loaded.version)
        self.metrics.serve(None)

    def able(self, seat: Seat) -> bool:
        """Whether it can answer a request that the champion could answer as well."""
        if self.engine.longest_s > RESCUE_S:
            return False
        try:
            self.engine.admit(seat.loaded)
        except Busy:
            return False
        return True

    def holds(self, label: LabelRow) -> bool:
        """Whether the challenger's journal has the row of a label."""
        return self._journal is not None and self._journal.holds(label.request_id, label.row)

    def close(self, wait_s: float) -> list[Callable[[], None]]:
        """Stop comparing, waiting so long for a call under way.

        Returns:
            What is left to close, each of which a model or a disk that hangs can hold up.
        """
        if self._seat is not None:
            self._seat.shadow.stop(wait_s)
        journal = [] if self._journal is None else [self._journal.close]
        return [self.engine.close, self.comparisons.close, *journal]

    def _open_journal(self) -> None:
        if self._journal is None and self._journal_folder is not None:
            self._journal = Journal(self._journal_folder)
            self.recorder = Recorder(self._journal, self._service_metrics, self._keeper, counts_rows=False)

    def _busy(self) -> bool:
        return self._champion_busy() or self.engine.unfinished > 0

    def _record(self, outcome: Outcome) -> None:
        if not self.comparisons.add(outcome):
            self.metrics.shadow.labels("lost").inc()
            return
        self.metrics.count(outcome)
        if outcome.challenger == self.version:
            self.metrics.show(self.comparisons.tally(*outcome.pair))
