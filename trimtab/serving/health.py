"""What Kubernetes asks a service: whether to send it requests (ready), and whether to restart it (alive).

A model that hangs or a thread that has ended is not ready at once or after `HANGING_S`, and not alive after `DEAD_S`:
time enough for a call that only takes long, and no restart for one. Both are looked at from outside the model: how long
the oldest call has run, whether threads and processes live, and whether anything was finished while requests wait.
Worker processes that die are started again: while none is alive the service is not ready, and after `DEAD_S` not alive.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trimtab.serving.engine import Engine
    from trimtab.serving.service import Service

HANGING_S = 30.0
DEAD_S = 120.0


class Progress:
    """How long an engine has been stuck: requests wait in it, and none was finished.

    It only remembers what it saw when it was asked, so the time is a lower bound; probes ask every few seconds.

    Args:
        engine: gives the engine. clock: seconds, monotonic.
    """

    def __init__(self, engine: Callable[[], Engine], clock: Callable[[], float] = time.monotonic) -> None:
        self._engine, self._clock = engine, clock
        self._finished = -1
        self._since = clock()

    def stuck_s(self) -> float:
        """Seconds since it was first seen so; 0 where nothing waits."""
        engine, now = self._engine(), self._clock()
        if engine.unfinished == 0 or engine.finished != self._finished:
            self._finished, self._since = engine.finished, now
        return max(now - self._since, engine.longest_s)


def bereft_s(engine: Engine) -> float:
    """For how long no process has been alive that runs the model of the release that answers, seconds."""
    pool = engine.current.pool if engine.current is not None else None
    return 0.0 if pool is None else pool.bereft_s


def why_not_ready(service: Service) -> str | None:
    """Why no request should be sent here now; None if it can score."""
    engine = service.engine
    if service.drain.begun:
        return "the service is shutting down"
    if engine.current is None:
        return "no release is loaded yet"
    if engine.dead:
        return "a thread that runs the model has ended"
    if bereft_s(engine) > 0:
        return "no worker process is alive; they are started again"
    if service.progress.stuck_s() > HANGING_S:
        return f"no request was answered for over {HANGING_S:g} s while some wait"
    return None


def why_not_alive(service: Service) -> str | None:
    """Why the process should be restarted; None if it need not be."""
    if service.engine.dead and not service.drain.begun:  # closing ends the threads too
        return "a thread that runs the model has ended"
    if bereft_s(service.engine) > DEAD_S and not service.drain.begun:
        return f"no worker process has been alive for over {DEAD_S:g} s"
    if service.progress.stuck_s() > DEAD_S:
        return f"no request was answered for over {DEAD_S:g} s while some wait"
    return None
