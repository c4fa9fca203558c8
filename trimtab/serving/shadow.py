"""Copies of answered requests on a challenger, behind the answers: own thread, bounded queue, lower priority.

Nothing here can hold up an answer: an offer takes microseconds and is refused when the queue is full. The thread waits
until no request is waiting for a model or in one, at most `PATIENCE_S`, so that a service that is never idle still
compares about one request a second. What is refused is counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from trimtab.journal.outcomes import Outcome
from trimtab.serving.compare import Copy, compare
from trimtab.serving.release import Loaded

MOST_COPIES, MOST_BYTES = 64, 64 * 2**20
MOST_OUTCOMES = 4096
PATIENCE_S = 1.0
LOOK_S = 0.002
_logger = logging.getLogger(__name__)


class Shadow:
    """Compares one challenger with the champion, and writes down what it did as a canary.

    Args:
        challenger: the release; a predictor that may be called from this thread beside any other.
        tolerance: of a regression, see `compare.agreeing`.
        busy: whether a request waits for a model or is in one.
        record: writes an outcome down; called on this thread only.
    """

    def __init__(
        self, challenger: Loaded, tolerance: float, busy: Callable[[], bool], record: Callable[[Outcome], None]
    ) -> None:
        self._challenger, self._tolerance, self._busy, self._record = challenger, tolerance, busy, record
        self._waiting: deque[Copy | Outcome] = deque()
        self._copies = self._bytes = 0
        self._stopped = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"shadow {challenger.version}", daemon=True)
        self._thread.start()

    def offer(self, copy: Copy) -> bool:
        """Have a copy compared some time later.

        Returns:
            False where too many wait already, in number or in bytes; or it is stopped.
        """
        with self._changed:
            full = self._copies >= MOST_COPIES or (self._copies and self._bytes + copy.size > MOST_BYTES)
            if full or self._stopped:
                return False
            self._waiting.append(copy)
            self._copies += 1
            self._bytes += copy.size
            self._changed.notify()
            return True

    def note(self, outcome: Outcome) -> bool:
        """Have an outcome of a canary written down; False where too many wait already."""
        with self._changed:
            if self._stopped or len(self._waiting) >= MOST_OUTCOMES:
                return False
            self._waiting.append(outcome)
            self._changed.notify()
            return True

    def stop(self, wait_s: float = 0.0) -> None:
        """Compare no more; outcomes that are known are written down. A call under way is waited for so long."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(wait_s)

    def _run(self) -> None:
        while (item := self._next()) is not None:
            try:
                if isinstance(item, Copy):
                    self._let_answers_go_first()
                    if self._stopped:
                        continue
                    item = compare(item, self._challenger, self._tolerance)
                self._record(item)
            except Exception:  # this thread must outlive whatever a runtime or a disk does
                _logger.exception("a request could not be compared")

    def _next(self) -> Copy | Outcome | None:
        with self._changed:
            while not self._waiting and not self._stopped:
                self._changed.wait()
            while self._waiting:
                item = self._waiting.popleft()
                if isinstance(item, Copy):
                    self._copies -= 1
                    self._bytes -= item.size
                    if self._stopped:
                        continue
                return item
            return None

    def _let_answers_go_first(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while self._busy() and not self._stopped and time.monotonic() < until:
            time.sleep(LOOK_S)
