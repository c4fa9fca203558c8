"""The champion is followed: a new one is fetched, loaded and proven beside the old one, then they are swapped.

The registry is asked once a second and is the truth; nothing has to be told. While it cannot be reached, what serves
goes on serving, and after a restart the last served release is taken from disk.
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

from trimtab.serving.metrics import Metrics
from trimtab.serving.release import Loaded
from trimtab.store import write_atomic

POLL_S = 0.5
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0
_SERVED = "served.json"
_logger = logging.getLogger(__name__)


class Source(Protocol):
    """The registry, as seen from here."""

    def current_champion(self) -> int | None:
        """The version to serve; None when there is none."""

    def download(self, version: int, into: Path) -> Any:
        """Fetch and verify a release folder; `into` is whole afterwards or as it was before."""


@dataclass(frozen=True)
class Following:
    """What /version tells of following the registry.

    Attributes:
        champion: the version the registry names, as last heard. registry_error: why it cannot be reached now.
        refused: version that was refused. reason: why.
    """

    champion: int | None = None
    registry_error: str | None = None
    refused: int | None = None
    reason: str | None = None


class Follower:
    """A background thread that keeps the service on the champion.

    Args:
        source: the registry.
        folder: where release folders are kept; the current and the previous one stay.
        load: makes a release of (folder, version) or raises with the reason.
        swap: puts a loaded release in service.
        current: version in service, None for none.
    """

    def __init__(
        self,
        source: Source,
        folder: Path,
        load: Callable[[Path, str], Loaded],
        swap: Callable[[Loaded], None],
        current: Callable[[], str | None],
        metrics: Metrics,
        poll_s: float = POLL_S,
    ) -> None:
        self._source, self._folder, self._load, self._swap = source, folder, load, swap
        self._current, self._metrics, self._poll_s = current, metrics, poll_s
        self._stop = threading.Event()
        self._retry_at, self._retry_s = 0.0, FIRST_RETRY_S
        self._previous: str | None = None
        self.state = Following()
        self._thread = threading.Thread(target=self._run, name="follow", daemon=True)

    def start(self) -> None:
        """Begin following."""
        self._thread.start()

    def stop(self) -> None:
        """End after the step under way; a download is not waited for long."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def step(self) -> None:
        """One look at the registry, and what follows from it.

        Raises:
            OSError: the release serves, but which one cannot be noted on disk.
        """
        try:
            champion = self._source.current_champion()
        except Exception as error:
            self._unreachable(error)
            return
        if self.state.registry_error is not None:
            _logger.warning("the registry answers again")
        self._metrics.registry_up.set(1)
        if champion != self.state.champion:
            self._retry_at, self._retry_s = 0.0, FIRST_RETRY_S
        self.state = replace(self.state, champion=champion, registry_error=None)
        if champion is None or str(champion) == self._current():
            self.state = replace(self.state, refused=None, reason=None)
        elif time.monotonic() >= self._retry_at:
            self._take(champion)

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
        self._clean(into)

    def _put(self, folder: Path, version: str) -> None:
        self._previous = self._current()
        self._swap(self._load(folder, version))
        _logger.warning("version %s serves (before: %s)", version, self._previous)

    def _refuse(self, version: int, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        if (version, reason) != (self.state.refused, self.state.reason):
            _logger.error("version %s refused, %s stays: %s", version, self._current(), reason)
        self._metrics.refused.inc()
        self.state = replace(self.state, refused=version, reason=reason)

    def _unreachable(self, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        if self.state.registry_error is None:
            _logger.error("the registry cannot be asked: %s", reason)
        self._metrics.registry_up.set(0)
        first = self.state.registry_error is None
        self.state = replace(self.state, registry_error=reason)
        if first and self._current() is None:
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

    def _clean(self, current: Path) -> None:
        keep = {current.name, f"version-{self._previous}"}
        for folder in self._folder.glob("version-*"):
            if folder.name not in keep:
                shutil.rmtree(folder, ignore_errors=True)
