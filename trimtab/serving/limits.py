"""What a release says about how it is served: `serving` in its release.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trimtab.errors import StateError

LONGEST_DRAIN_S = 60.0  # our supervisor waits a little longer before it kills


@dataclass(frozen=True)
class Limits:
    """The recipe's `serving` section as it was released; the defaults are the recipe's.

    Attributes:
        threads: threads inside an operator of the runtime.
        max_queue: requests waiting for the model; one more is answered 503 at once.
        max_body: largest request body, bytes.
        journal_inputs: whether the journal keeps the inputs of each row.
        drain_s: seconds from SIGTERM to the end of the process at the latest.
    """

    threads: int = 1
    max_queue: int = 64
    max_body: int = 16 * 2**20
    journal_inputs: bool = True
    drain_s: float = 10.0

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> Limits:
        """From the keys threads, max_queue, max_body_mb, journal_inputs, drain_s; absent ones have their defaults.

        Raises:
            StateError: a value is of another type or not positive.
        """
        default = cls()
        try:
            limits = cls(
                threads=int(section.get("threads", default.threads)),
                max_queue=int(section.get("max_queue", default.max_queue)),
                max_body=int(float(section.get("max_body_mb", default.max_body / 2**20)) * 2**20),
                journal_inputs=bool(section.get("journal_inputs", default.journal_inputs)),
                drain_s=float(section.get("drain_s", default.drain_s)),
            )
        except (TypeError, ValueError) as error:
            raise StateError(f"is not readable: {error}", where="release.json: serving") from None
        if min(limits.threads, limits.max_queue, limits.max_body) < 1:
            raise StateError("threads, max_queue and max_body_mb must be positive", where="release.json: serving")
        if not 1 <= limits.drain_s <= LONGEST_DRAIN_S:
            raise StateError(f"drain_s must be within 1 and {LONGEST_DRAIN_S:g}", where="release.json: serving")
        return limits
