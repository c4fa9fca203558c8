"""A client's share of the service: how many of its requests may be unfinished at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from trimtab.serving.failures import TooMany


class Shares:
    """Counts unfinished requests by client address, on the event loop."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()

    @contextmanager
    def held(self, client: str, most: int | None) -> Iterator[None]:
        """Inside, one request of this client is unfinished.

        Args:
            client: its address. most: how many it may have; None: any number, and nothing is counted.

        Raises:
            TooMany: it has as many already.
        """
        if most is None:
            yield
            return
        if self._held[client] >= most:
            raise TooMany(f"this client has {most} unfinished requests, as many as one may have")
        self._held[client] += 1
        try:
            yield
        finally:
            self._held[client] -= 1
            if not self._held[client]:
                del self._held[client]
