"""A predictor that is several processes: each call goes to one that is free, and one that dies is started again.

Each process has a thread that starts it, waits for its end, and starts it again: at once, then after ever longer waits.
Whatever starts is proven before it is asked, the first time and every time. The processes end when nobody holds the
predictor any more: a release that was swapped out keeps them until its last request is answered.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from trimtab.runtime.child import NotAsked, WorkerDied

Array = np.ndarray
WAIT_S = 5.0  # that a call waits for a process to come back where none is alive
FIRST_RETRY_S, LAST_RETRY_S = 0.1, 30.0
SETTLED_S = 60.0  # a process that lived so long is started again at once
_logger = logging.getLogger(__name__)


class Process(Protocol):
    """A worker process, as `trimtab.runtime.child.Child`."""

    spec: dict[str, Any]
    reentrant: bool

    @property
    def pid(self) -> int: ...
    @property
    def usable(self) -> bool: ...
    def load(self) -> None: ...
    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]: ...
    def kill(self) -> None: ...
    def wait(self) -> str: ...


class Pool:
    """A predictor in `count` processes. Reentrant: more calls than processes wait for one another.

    Args:
        start: starts a process. prove: raises where it must not be asked.

    Attributes:
        spec: inputs and outputs, as in spec.json.
    """

    reentrant = True

    def __init__(self, start: Callable[[], Process], count: int, prove: Callable[[Process], None]) -> None:
        """Start all of them, at the same time; all are proven afterwards, or none is left.

        Raises:
            Exception: what the first raised that could not be started, loaded or proven.
        """
        self._slots = _Slots(start, prove)
        self.close = weakref.finalize(self, self._slots.close)
        try:
            self.spec = self._slots.fill(count)
        except BaseException:
            self.close()
            raise

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name for inputs name → array (batch, ...).

        Raises:
            InputError: the inputs do not fit the specification. WorkerFailed: the model raised. WorkerDied: the process
                died over it, or none is alive and none came back for `WAIT_S`.
        """
        while True:
            process = self._slots.take()
            try:
                return process.predict(inputs)
            except NotAsked:
                continue  # it died while nobody asked it: no reason to fail anybody
            finally:
                self._slots.give(process)

    @property
    def pids(self) -> list[int]:
        """Of the processes that are alive."""
        return self._slots.pids

    @property
    def bereft_s(self) -> float:
        """For how long no process has been alive, seconds; 0 where one is."""
        return self._slots.bereft_s

    def tell_deaths(self, told: Callable[[], None]) -> None:
        """Have a function called whenever a process died, on any thread."""
        self._slots.told = told


class _Slots:
    """What a pool and the threads of its processes share. The threads do not hold the pool, so that it can end."""

    def __init__(self, start: Callable[[], Process], prove: Callable[[Process], None]) -> None:
        self._start, self._prove = start, prove
        self._changed = threading.Condition()
        self._idle: deque[Process] = deque()
        self._alive: list[Process] = []  # proven
        self._all: list[Process] = []  # with those that are being started
        self._bereft_since: float | None = None
        self._failure: BaseException | None = None
        self._filled = self._closed = False
        self.told: Callable[[], None] = lambda: None

    def fill(self, count: int) -> dict[str, Any]:
        """Start so many and wait for all; their specification."""
        for number in range(count):
            threading.Thread(target=self._keep, name=f"worker-{number}", daemon=True).start()
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None or len(self._alive) == count)
            if self._failure is not None:
                raise self._failure
            self._filled = True
            return self._alive[0].spec

    def take(self) -> Process:
        """A process that nobody asks; waits for one as long as any is alive."""
        until = None
        with self._changed:
            while not self._idle:
                now = time.monotonic()
                until = None if self._alive else until or now + WAIT_S
                if self._closed or (until is not None and now >= until):
                    raise WorkerDied("no worker process is alive", fix="the log says how they ended")
                self._changed.wait(None if until is None else until - now)
            return self._idle.popleft()

    def give(self, process: Process) -> None:
        """Take it back after its answer; one that cannot be asked any more is ended, and so started again."""
        if not process.usable:
            process.kill()
            return
        with self._changed:
            if process in self._alive:  # else it died since
                self._idle.append(process)
                self._changed.notify()

    def close(self) -> None:
        """End all processes; nobody waits for them, and they have nothing to lose."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            for process in self._all:
                process.kill()

    @property
    def pids(self) -> list[int]:
        with self._changed:
            return [process.pid for process in self._alive]

    @property
    def bereft_s(self) -> float:
        since = self._bereft_since
        return 0.0 if since is None else time.monotonic() - since

    def _keep(self) -> None:
        """Keep one process alive, until the pool is closed or, while it is filled, something fails."""
        wait_s = FIRST_RETRY_S
        while not self._closed:
            began = time.monotonic()
            try:
                ended = self._live()
            except BaseException as error:
                if not self._filled:
                    self._fail(error)
                    return
                ended = f"{type(error).__name__}: {error}"
            if self._closed:
                return
            wait_s = FIRST_RETRY_S if time.monotonic() - began > SETTLED_S else min(2 * wait_s, LAST_RETRY_S)
            _logger.error("a worker process ended (%s); it is started again in %.1f s", ended, wait_s)
            self.told()
            with self._changed:
                self._changed.wait_for(lambda: self._closed, wait_s)

    def _live(self) -> str:
        """The life of one process: started, loaded, proven, asked by others; how it ended."""
        process = self._start()
        with self._changed:
            self._all.append(process)
            if self._closed:
                process.kill()
        try:
            process.load()
            self._prove(process)
            self._join(process)
        except BaseException as error:
            process.kill()
            ended = self._gone(process)
            if isinstance(error, WorkerDied):
                raise WorkerDied(f"a worker process ended while it was loaded or proven ({ended})") from error
            raise
        return self._gone(process)

    def _join(self, process: Process) -> None:
        with self._changed:
            self._alive.append(process)
            self._idle.append(process)
            self._bereft_since = None
            self._changed.notify_all()

    def _gone(self, process: Process) -> str:
        """Wait for its end and forget it; how it ended."""
        ended = process.wait()
        with self._changed:
            for those in (self._all, self._alive, self._idle):
                if process in those:
                    those.remove(process)
            if not self._alive and self._filled and self._bereft_since is None:
                self._bereft_since = time.monotonic()
            self._changed.notify_all()
        return ended

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()
