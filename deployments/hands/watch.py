"""One round after another over the release names of the ledger.

    a name: aliases, time of change and last entries of the ledger as before?  → nothing
            else, under its lock: in step with the ledger, no alert owed?      → remembered
                                  not                                          → settled, then looked at again

Polling, not MLflow's webhooks: those know no change of a stage (decision 024).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from deployments.hands.beat import beat, beat_file
from trimtab.errors import Conflict, TrimtabError
from trimtab.ledger import Ledger, utc_now
from trimtab.registry import challenges, promotions
from trimtab.registry.glance import Glance, glance, shown
from trimtab.registry.hands import differences, is_under_way
from trimtab.registry.names import lock_file
from trimtab.registry.staging_log import moves
from trimtab.registry.unsaid import unsaid
from trimtab.settings import Settings
from trimtab.store import os_lock

NAMES_S = 10.0  # a release that is registered for the first time is watched so much later at most
FIRST_RETRY_S, LAST_RETRY_S = 4.0, 600.0  # of a name that could not be settled
FIRST_WAIT_S, LAST_WAIT_S = 2.0, 16.0  # for a server that does not answer


@dataclass(frozen=True)
class Mark:
    """What was there at a look; equal marks mean that nothing was moved and nothing was decided in between.

    Attributes:
        promoted, challenged: number of the last entry of each stream of the ledger.
    """

    glance: Glance
    promoted: int
    challenged: int


@dataclass(frozen=True)
class Failed:
    """A name that could not be settled: as it was, when it is tried again, and how long it was waited (seconds)."""

    mark: Mark
    again_at: float
    waited_s: float


class Watch:
    """The names of a ledger, looked at in rounds.

    Args:
        settings: with MLflow's address.
        settle: has a name settled, and gives the alerts that are owed; whether it could.
        say: takes a line for the log.
        clock: monotonic seconds. now: the time, with a zone.
    """

    def __init__(
        self,
        settings: Settings,
        settle: Callable[[str], bool],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._settings, self._mlflow = settings, settings.tracking_uri()
        self._settle, self._say, self._clock, self._now = settle, say, clock, now
        self._ledger: Ledger | None = None
        self._names: tuple[float, list[str]] | None = None
        self._seen: dict[str, Mark] = {}
        self._failed: dict[str, Failed] = {}
        self._trouble, self._wait_s = "", FIRST_WAIT_S

    def round(self) -> float | None:
        """Look at every name once.

        Returns:
            How long to wait for what does not answer (seconds); None if everything did.
        """
        trouble = ""
        try:
            self._ledger = ledger = self._ledger or Ledger(self._settings.ledger)
            for name in self._watched(ledger):
                trouble = self._tried(ledger, name) or trouble
        except TrimtabError as error:
            trouble = str(error)
        if trouble != self._trouble:
            self._say(trouble or "everything answers again")
        self._wait_s = min(2 * self._wait_s, LAST_WAIT_S) if trouble and self._trouble else FIRST_WAIT_S
        self._trouble = trouble
        if trouble:
            return self._wait_s
        beat(beat_file(self._settings.home))
        return None

    def _watched(self, ledger: Ledger) -> list[str]:
        if self._names is None or self._clock() - self._names[0] >= NAMES_S:
            self._names = (self._clock(), [stream.partition("/")[2] for stream in ledger.streams("versions/")])
        return self._names[1]

    def _tried(self, ledger: Ledger, name: str) -> str:
        """Why a name could not be looked at, or "": the others are not to wait for it."""
        try:
            self._look(ledger, name)
        except TrimtabError as error:
            return str(error)
        return ""

    def _look(self, ledger: Ledger, name: str) -> None:
        mark = self._mark(ledger, name)
        if mark == self._seen.get(name) or self._waits(name, mark):
            return
        try:
            with os_lock(lock_file(self._settings.locks, "promote", name), wait=False, what=f"promote {name}"):
                mark = self._mark(ledger, name)
                why = self._why(ledger, name)
        except Conflict:  # a promotion of ours; it is looked at once it has ended
            return
        if why is None:
            return
        for line in why:
            self._say(f"{name}: {line}")
        if not why or self._settle(name):
            self._seen[name] = mark  # as it was before: what was done shows as a change, and is looked at once more
            self._failed.pop(name, None)
        else:
            self._put_off(name, mark)

    def _mark(self, ledger: Ledger, name: str) -> Mark:
        heads = (ledger.head(promotions.stream(name)), ledger.head(challenges.stream(name)))
        return Mark(glance(self._mlflow, name), *heads)

    def _why(self, ledger: Ledger, name: str) -> list[str] | None:
        """Why a name has to be settled; None while another machine may be in the middle of it."""
        entries = ledger.read(promotions.stream(name))
        log, staging = promotions.fold(name, entries), moves(entries)[1]
        tried = challenges.read_challenges(ledger, name)
        if is_under_way(log, tried, staging, self._now()):
            return None
        owed = unsaid(name, entries, ledger.read(f"alerts/{name}"))
        said = differences(log, tried, staging, shown(self._mlflow, name))
        return [*said, *(f"no alert yet: {alert.subject}" for alert in owed)]

    def _waits(self, name: str, mark: Mark) -> bool:
        failed = self._failed.get(name)
        return failed is not None and failed.mark == mark and self._clock() < failed.again_at

    def _put_off(self, name: str, mark: Mark) -> None:
        before = self._failed.get(name)
        again = before is not None and before.mark == mark
        wait_s = min(2 * before.waited_s, LAST_RETRY_S) if before is not None and again else FIRST_RETRY_S
        self._failed[name] = Failed(mark, self._clock() + wait_s, wait_s)
        self._say(f"{name}: not settled; tried again in {wait_s:.0f} s")
