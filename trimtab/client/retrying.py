"""When a call is tried again: 429, 503 and connections that failed, ever later, never before the service said.

Half of each wait is left to chance, so that clients that failed together do not come back together (Brooker,
"Exponential Backoff and Jitter", 2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

RETRIED = frozenset({429, 503})


@dataclass(frozen=True)
class Retries:
    """How often and how late.

    Attributes:
        attempts: in all, the first one included; 1 or more.
        first_s: largest wait after the first failure, seconds; it doubles with each further one.
        most_s: it grows no further than this.
    """

    attempts: int = 4
    first_s: float = 0.1
    most_s: float = 5.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first_s < 0 or self.most_s < 0:
            raise ValueError(f"{self}: attempts must be 1 or more, seconds 0 or more")

    def wait_s(self, failed: int, told_s: float | None, chance: float) -> float:
        """Seconds to wait after so many failures.

        Args:
            failed: attempts that failed, 1 or more.
            told_s: what the service's Retry-After says; None where it says nothing.
            chance: a random number, 0 ≤ chance < 1.
        """
        largest = min(self.first_s * 2.0 ** min(failed - 1, 60), self.most_s)
        own = largest * (0.5 + 0.5 * chance)
        return own if told_s is None else max(own, told_s * (1 + 0.1 * chance))


def told_s(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for, given as a number or as a date (RFC 9110, 10.2.3); None for none."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        then = parsedate_to_datetime(text)
    except ValueError:
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return max(0.0, (then - (now or datetime.now(UTC))).total_seconds())
