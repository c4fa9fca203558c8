"""An alias is followed: a new release is fetched, loaded and proven beside the old one, then they are swapped.

The registry is asked twice a second and is the truth; nothing has to be told. While it cannot be reached, what serves
goes on serving, and after a restart the last served champion is taken from disk. A challenger is followed in the same
way, by a follower of its own; only its alias can be taken away, and it is not taken from disk.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from prometheus_client import Counter, Gauge

from trimtab.serving.release import Loaded
from trimtab.store import write_atomic

POLL_S = 0.5
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0
_SERVED = "served.json"
_logger = logging.getLogger(__name__)


class Source(Protocol):
    """The registry, as seen from here; one alias of one release name."""

    def current(self) -> int | None:
        """The version under the alias; None when there is none."""

    def download(self, version: int, into: Path) -> Any:
        """Fetch and verify a release folder; `into` is whole afterwards or as it was before."""


class Counted(Protocol):
    """What is counted of following."""

    @property
    def registry_up(self) -> Gauge: ...
    @property
    def refused(self) -> Counter: ...


@dataclass(frozen=True)
class Following:
    """What /version tells of following the registry.

    Attributes:
        wanted: the version the registry names, as last heard. registry_error: why it cannot be reached now.
        refused: version that was refused. reason: why.
    """

    wanted: int | None = None
    registry_error: str | None = None
    refused: int | None = None
    reason: str | None = None

    @property
    def refusal(self) -> dict[str, Any] | None:
        """What was refused and why; None for nothing."""
        return None if self.refused is None else {"version": self.refused, "reason": self.reason}


class Follower:
    """A background thread that keeps the service on an alias.

    Args:
        source: the registry.
        folder: where release folders are kept; the current and the previous one stay.
        load: makes a release of (folder, version) or raises with the reason.
        swap: puts a loaded release in service, or raises.
        current: version in service, None for none.
        clear: takes it out of service when the alias is gone. None, for the champion: it stays, and after a start
            without a registry the last one is taken from disk.
    """

    def __init__(
        self,
        source: Source,
        folder: Path,
        load: Callable[[Path, str], Loaded],
        swap: Callable[[Loaded], None],
        current: Callable[[], str | None],
        metrics: Counted,
        poll_s: float = POLL_S,
        clear: Callable[[], None] | None = None,
    ) -> None:
        self._source, self._folder, self._load, self._swap = source, folder, load, swap
        self._current, self._metrics, self._poll_s, self._clear = current, metrics, poll_s, clear
        self._stop = threading.Event()
        self._retry_at, self._retry_s = 0.0, FIRST_RETRY_S
        self._previous: str | None = None
        self.state = Following()
        self._thread = threading.Thread(target=self._run, name="follow", daemon=True)

    def start(self) -> None:
        """Begin following; half a download that a kill left behind is removed."""
        for draft in self._folder.glob(".*version-*"):
            shutil.rmtree(draft, ignore_errors=True)
        self._thread.start()

    def stop(self, wait_s: float) -> None:
        """End after the step under way; a download is waited for so long."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(wait_s)

    def step(self) -> None:
        """One look at the registry, and what follows from it.

        Raises:
            OSError: the release serves, but which one cannot be noted on disk.
        """
        try:
            wanted = self._source.current()
        except Exception as error:
            self._unreachable(error)
            return
        if self.state.registry_error is not None:
            _logger.warning("the registry answers again")
        self._metrics.registry_up.set(1)
        if wanted != self.state.wanted:
            self._retry_at, self._retry_s = 0.0, FIRST_RETRY_S
        self.state = replace(self.state, wanted=wanted, registry_error=None)
        if wanted is None or str(wanted) == self._current():
            self.state = replace(self.state, refused=None, reason=None)
        elif time.monotonic() >= self._retry_at:
            self._take(wanted)
        if self._clear is not None and self._current() not in (None, str(wanted)):
            self._clear()

    @property
    def _role(self) -> str:
        return "champion" if self._clear is None else "challenger"

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.step()
            except Exception:  # e.g. the disk is full: this thread must outlive it, or a promotion is never seen
                _logger.exception("following the registry failed; it goes on")
            self._stop.wait(self._poll_s)

    def _take(self, version: int) -> None:
        into = self._folder / f"version-{version}"
        try:
            self._source.download(version, into)
            self._put(into, str(version))
        except Exception as error:
            # A release does not change, but a full disk or a cut connection does: try again, ever more seldom.
            self._retry_at = time.monotonic() + self._retry_s
            self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)
            self._refuse(version, error)
            return
        self.state = replace(self.state, refused=None, reason=None)
        write_atomic(self._folder / _SERVED, json.dumps({"version": version}).encode())
        self._tidy(into)

    def _put(self, folder: Path, version: str) -> None:
        self._previous = self._current()
        self._swap(self._load(folder, version))
        _logger.warning("version %s is %s (before: %s)", version, self._role, self._previous)

    def _refuse(self, version: int, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        if (version, reason) != (self.state.refused, self.state.reason):
            _logger.error("version %s is refused as %s: %s", version, self._role, reason)
        self._metrics.refused.inc()
        self.state = replace(self.state, refused=version, reason=reason)

    def _unreachable(self, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        if self.state.registry_error is None:
            _logger.error("the registry cannot be asked: %s", reason)
        self._metrics.registry_up.set(0)
        first = self.state.registry_error is None
        self.state = replace(self.state, registry_error=reason)
        if first and self._current() is None and self._clear is None:
            self._take_last_served()

    def _take_last_served(self) -> None:
        try:
            version = int(json.loads((self._folder / _SERVED).read_bytes())["version"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            _logger.error("%s cannot be read: %s", self._folder / _SERVED, error)
            return
        try:
            self._put(self._folder / f"version-{version}", str(version))
        except Exception as error:
            self._refuse(version, error)

    def _tidy(self, current: Path) -> None:
        keep = {current.name, f"version-{self._previous}"}
        for folder in self._folder.glob("version-*"):
            if folder.name not in keep:
                shutil.rmtree(folder, ignore_errors=True)
