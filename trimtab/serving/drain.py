"""Shutting down: what is under way is answered, what comes is refused with 503, and there is an end to it."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from trimtab.serving.answers import failure
from trimtab.serving.metrics import Metrics

CLOSING_S = 3.0  # of the whole time: for connections, threads and files
RETRY_S = "1"
_READS = frozenset({"GET", "HEAD"})


class Drain:
    """Whether the service shuts down, and what is still under way.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends: float | None = None
        self.under_way = 0

    @property
    def begun(self) -> bool:
        """Whether new work is refused."""
        return self._ends is not None

    def begin(self, whole_s: float) -> bool:
        """Refuse new work from now on.

        Args:
            whole_s: seconds until the process ends at the latest; work has all of them but `CLOSING_S`.

        Returns:
            False where it had begun already.
        """
        if self.begun:
            return False
        self._ends = self._clock() + max(0.0, whole_s - CLOSING_S)
        return True

    @property
    def over(self) -> bool:
        """Whether nothing is under way any more, or no more time is left for it."""
        return self._ends is not None and (self.under_way == 0 or self._clock() >= self._ends)


class Gate:
    """ASGI middleware: counts requests that write, and refuses them while the service shuts down.

    Reading stays possible to the end: probes and metrics are asked then too.
    """

    def __init__(self, app: ASGIApp, drain: Drain, metrics: Metrics) -> None:
        self._app, self._drain, self._metrics = app, drain, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection or event of ASGI."""
        if scope["type"] != "http" or scope["method"] in _READS:
            await self._app(scope, receive, send)
            return
        if self._drain.begun:
            self._metrics.requests.labels(503).inc()
            headers = {"Retry-After": RETRY_S, "Connection": "close"}
            refusal = failure(503, "TEMPORARILY_UNAVAILABLE", "the service is shutting down", headers)
            await refusal(scope, receive, send)
            return
        self._drain.under_way += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._drain.under_way -= 1
