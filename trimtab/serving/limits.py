"""What a release says about how it is served: `serving` in its release.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trimtab.errors import StateError

LONGEST_DRAIN_S = 60.0  # our supervisor waits a little longer before it kills
MODES = ("auto", "on", "off")


@dataclass(frozen=True)
class Limits:
    """The recipe's `serving` section as it was released; the defaults are the recipe's.

    Attributes:
        threads: threads inside an operator of the runtime.
        max_queue: requests waiting for the model; one more is answered 503 at once.
        max_body: largest request body, bytes.
        journal_inputs: whether the journal keeps the inputs of each row.
        drain_s: seconds from SIGTERM to the end of the process at the latest.
        workers: calls of the model at once; None: as many as were measured to help when the release was loaded.
        batching: whether requests share calls of the model: "auto" (measured to pay), "on" or "off".
        max_rows: most rows of a shared call. max_wait_s: most that sharing may add to a call of one row, seconds.
        max_per_client: unfinished requests of one client address; one more is answered 429 at once. None: no limit.
    """

    threads: int = 1
    max_queue: int = 64
    max_body: int = 16 * 2**20
    journal_inputs: bool = True
    drain_s: float = 10.0
    workers: int | None = None
    batching: str = "auto"
    max_rows: int = 32
    max_wait_s: float = 0.005
    max_per_client: int | None = None

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> Limits:
        """From the recipe's keys; absent ones, as in a release from before there were such, have their defaults.

        Raises:
            StateError: a value is of another type or not positive.
        """
        default = cls()
        try:
            batching = dict(section.get("batching", {}))
            limits = cls(
                threads=int(section.get("threads", default.threads)),
                max_queue=int(section.get("max_queue", default.max_queue)),
                max_body=int(float(section.get("max_body_mb", default.max_body / 2**20)) * 2**20),
                journal_inputs=bool(section.get("journal_inputs", default.journal_inputs)),
                drain_s=float(section.get("drain_s", default.drain_s)),
                workers=_number_unless(section.get("workers", "auto"), "auto"),
                batching=str(batching.get("mode", default.batching)),
                max_rows=int(batching.get("max_rows", default.max_rows)),
                max_wait_s=float(batching.get("max_wait_ms", default.max_wait_s * 1000)) / 1000,
                max_per_client=_number_unless(section.get("max_queue_per_client"), None),
            )
        except (TypeError, ValueError) as error:
            raise StateError(f"is not readable: {error}", where="release.json: serving") from None
        most = (
            limits.threads,
            limits.max_queue,
            limits.max_body,
            limits.workers,
            limits.max_rows,
            limits.max_per_client,
        )
        if min(value for value in most if value is not None) < 1:
            raise StateError("threads, workers and all limits must be positive", where="release.json: serving")
        if limits.batching not in MODES or not limits.max_wait_s >= 0:
            raise StateError(
                f"batching must be one of {', '.join(MODES)}, its max_wait_ms 0 or more", where="release.json: serving"
            )
        if not 1 <= limits.drain_s <= LONGEST_DRAIN_S:
            raise StateError(f"drain_s must be within 1 and {LONGEST_DRAIN_S:g}", where="release.json: serving")
        return limits


def _number_unless(value: Any, special: str | None) -> int | None:
    return None if value == special else int(value)
