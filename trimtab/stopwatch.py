"""Where the time of a run went: seconds by kind of work, for the summary at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Kind = Literal["training", "measuring", "serving"]


class Stopwatch:
    """Seconds spent on training, measuring and serving; whatever else passes is overhead."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {"training": 0.0, "measuring": 0.0, "serving": 0.0}
        self._lock = threading.Lock()

    @contextmanager
    def on(self, kind: Kind) -> Iterator[None]:
        """Count the time inside the block as `kind`."""
        start = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[kind] += time.monotonic() - start
