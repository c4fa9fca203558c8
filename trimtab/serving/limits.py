"""What a release says about how it is served: `serving` in its release.json; and what a body may hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trimtab.errors import ProtocolError, StateError
from trimtab.serving.keeping import Keeping

LONGEST_DRAIN_S = 60.0  # our supervisor waits a little longer before it kills
MOST_PROCESSES = 64
MODES = ("auto", "on", "off")


@dataclass(frozen=True)
class Limits:
    """The recipe's `serving` section as it was released; the defaults are the recipe's.

    Attributes:
        threads: threads inside an operator of the runtime.
        max_queue: requests waiting for the model; one more is answered 503 at once.
        max_body: largest request body, bytes, before and after decompression.
        keeping: what the journal keeps of the inputs of each row.
        max_elements: most values in a body of text.
        drain_s: seconds from SIGTERM to the end of the process at the latest.
        workers: calls of the model at once; None: as many as were measured to help when the release was loaded.
        processes: worker processes, each for one call at a time; 0: the model runs in the service. None: as measured.
        batching: whether requests share calls of the model: "auto" (measured to pay), "on" or "off".
        max_rows: most rows of a shared call. max_wait_s: most that sharing may add to a call of one row, seconds.
        max_per_client: unfinished requests of one client address; one more is answered 429 at once. None: no limit.
    """

    threads: int = 1
    max_queue: int = 64
    max_body: int = 16 * 2**20
    keeping: Keeping = field(default_factory=Keeping)
    max_elements: int = 4_000_000
    drain_s: float = 10.0
    workers: int | None = None
    processes: int | None = 0
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
                keeping=Keeping.from_json(section),
                max_elements=int(section.get("max_elements", default.max_elements)),
                drain_s=float(section.get("drain_s", default.drain_s)),
                workers=_number_unless(section.get("workers", "auto"), "auto"),
                processes=_number_unless(section.get("processes", default.processes), "auto"),
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
            limits.max_elements,
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
        if limits.processes is not None and not 0 <= limits.processes <= MOST_PROCESSES:
            raise StateError(f"processes must be auto, or 0 to {MOST_PROCESSES}", where="release.json: serving")
        if not 1 <= limits.drain_s <= LONGEST_DRAIN_S:
            raise StateError(f"drain_s must be within 1 and {LONGEST_DRAIN_S:g}", where="release.json: serving")
        return limits


def _number_unless(value: Any, special: str | None) -> int | None:
    return None if value == special else int(value)


def check_elements(body: bytes, limit: int) -> None:
    """Refuse a body of more values than `limit` before it is parsed: each becomes an object of 32 bytes or more.

    Values are divided by commas, of CSV also by ends of lines. A value takes two bytes, so a shorter body cannot hold
    too many and is not looked through.

    Raises:
        ProtocolError: 413.
    """
    if len(body) <= 2 * limit:
        return
    characters = np.frombuffer(body, np.uint8)
    count = 1 + _number(characters, b",")
    if body[:64].lstrip()[:1] not in (b"{", b"["):
        count += max(_number(characters, b"\n"), _number(characters, b"\r"))
    if count > limit:
        raise ProtocolError(
            f"the body holds about {count} values, more than {limit}",
            fix="send fewer rows a request",
            code="BAD_REQUEST",
            status=413,
        )


def _number(characters: np.ndarray, wanted: bytes) -> int:
    return int(np.count_nonzero(characters == wanted[0]))
