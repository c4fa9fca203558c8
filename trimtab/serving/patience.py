"""How long an answer is wanted: until the client's deadline, and as long as it is there."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from trimtab.errors import ProtocolError
from trimtab.serving.failures import Unwanted

HEADER = "X-Request-Timeout-Ms"
_MILLISECONDS = re.compile(r"[0-9]{1,9}")


@dataclass(slots=True)
class Patience:
    """Of one request; the event loop changes it, threads look at it.

    Attributes:
        expires: when the client's deadline passes, seconds of `time.monotonic`; None: it set none.
        gone: whether the client went away.
    """

    expires: float | None = None
    gone: bool = False

    @classmethod
    def from_header(cls, header: str | None, arrived: float) -> Patience:
        """As the request says.

        Args:
            header: value of X-Request-Timeout-Ms: milliseconds from its arrival, 1 to 999,999,999; None: no deadline.
            arrived: seconds of `time.monotonic`.

        Raises:
            ProtocolError: it is something else.
        """
        if header is None:
            return cls()
        if not _MILLISECONDS.fullmatch(header) or int(header) < 1:
            raise ProtocolError("must be a whole number of milliseconds, 1 or more, in at most 9 digits", where=HEADER)
        return cls(arrived + int(header) / 1000)

    def left_s(self) -> float | None:
        """Seconds to the deadline, 0 where it has passed; None where there is none."""
        return None if self.expires is None else max(self.expires - time.monotonic(), 0.0)

    def over(self, now: float) -> bool:
        """Whether nobody waits any more.

        Args:
            now: seconds of `time.monotonic`.
        """
        return self.gone or (self.expires is not None and now >= self.expires)

    def check(self) -> None:
        """Stop work that nobody waits for.

        Raises:
            Unwanted: the deadline has passed, or the client is gone.
        """
        if self.over(time.monotonic()):
            raise Unwanted(self.gone)
