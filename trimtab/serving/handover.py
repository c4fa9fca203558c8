"""Results from other threads to the event loop: many with one wake-up.

Waking a loop from another thread is a system call and a switch of threads; with results that arrive together (a shared
call of the model, a sync of the journal) it is paid once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any


class Handover:
    """Runs small functions on the loop they are meant for, in the order in which they were given."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._given: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._woken = False

    def here(self) -> asyncio.AbstractEventLoop:
        """Deliver to the loop that is running now, and return it. A loop of before (a test's) gets nothing any more."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._given.clear()
            self._loop, self._woken = loop, False
        return loop

    def give(self, function: Callable[..., None], *arguments: Any) -> None:
        """Have the loop call `function(*arguments)` soon; from any thread. Lost if the loop is closed."""
        # In this order: what is appended before `_deliver` clears the mark is seen by its loop, what is appended after
        # finds the mark cleared and wakes the loop again.
        self._given.append((function, arguments))
        if not self._woken and self._loop is not None:
            self._woken = True
            with contextlib.suppress(RuntimeError):  # closed
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._woken = False
        while self._given:
            function, arguments = self._given.popleft()
            function(*arguments)
