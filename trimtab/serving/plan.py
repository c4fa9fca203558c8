"""How a release is run: how many calls of its model at once, and which waiting requests share a call.

A worked example. One row takes 0.4 ms, two 0.7 ms, four 1.3 ms (`took` = 0, 0.4, 0.7, 1.0, 1.3), and a call costs 0.1
ms more for what changes hands (`call_s`). Five requests of one row each wait, one call may hold four rows, and sharing
may add 0.8 ms to a row's own 0.4 ms:

    requests      1     2     3     4
    together    0.5   0.8   1.1   1.4
    one by one  0.5   1.0   1.5   2.0
    share         1  0.80  0.73  0.70

Two and three come within 0.4 + 0.8 ms; four would not. Of those the smallest is taken that is as good as the best, or
nearly: three. A larger call would gain next to nothing, and while it runs, the other thread, which reads requests and
writes answers, would have nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

PAYS = 0.97  # a shared call takes at most this share of the calls it replaces: less of a gain is within the noise
NEARLY = 1.04  # times the best share: as good as that


@dataclass(frozen=True)
class Plan:
    """Decided when a release is loaded (`measuring`); by default one thread, and each request has a call of its own.

    Attributes:
        workers: calls of the model at once. processes: that they are made in; 0: in threads of the service.
        shares: whether waiting requests may share a call. why: what that was decided from, for people.
        took: seconds of a call of n rows at index n, as measured; empty where nothing was. The longest is that of the
            most rows that may share a call.
        call_s: seconds that a call costs besides, for changes of threads.
        max_wait_s: most seconds that sharing may add to a call of one row.
        always: share as much as the limits allow, whether or not it is faster.
    """

    workers: int = 1
    shares: bool = False
    why: str = "not measured"
    took: tuple[float, ...] = ()
    max_wait_s: float = 0.0
    always: bool = False
    processes: int = 0
    call_s: float = 0.0

    @property
    def max_rows(self) -> int:
        """Most rows of a shared call."""
        return max(len(self.took) - 1, 1)

    @property
    def row_s(self) -> float | None:
        """Seconds of a call of one row; None where that was not measured."""
        return self.took[1] if len(self.took) > 1 else None

    def together(self, rows: Iterable[int]) -> int:
        """How many of the first waiting requests to answer by one call: the fewest that gain nearly all there is.

        Args:
            rows: number of rows of each waiting request, in order; at least one request.
        """
        if not self.shares:
            return 1
        gains = self._gains(rows)
        if self.always:
            return max(len(gains), 1)
        best = min(gains, default=1.0)
        if best > PAYS:
            return 1
        return next(count for count, share in enumerate(gains, 1) if share <= min(best * NEARLY, PAYS))

    def _gains(self, rows: Iterable[int]) -> list[float]:
        """For the first one, two, … requests that may share a call: its time as a share of that of their own calls."""
        gains: list[float] = []
        total, apart = 0, 0.0
        for count, more in enumerate(rows, 1):
            total += more
            if total > self.max_rows or (count > 1 and self.took[total] - self.took[1] > self.max_wait_s):
                break
            apart += self.took[more] + self.call_s
            gains.append((self.took[total] + self.call_s) / apart)
        return gains

    def facts(self) -> dict[str, Any]:
        """What /version tells."""
        sizes = [2**power for power in range(len(self.took).bit_length()) if 2**power < len(self.took)]
        return {
            "workers": self.workers,
            "processes": self.processes,
            "shares_calls": self.shares,
            "why": self.why,
            "handover_ms": round(self.call_s * 1000, 4),
            "call_ms": {str(size): round(self.took[size] * 1000, 4) for size in sizes},
        }
