"""What a release says about how it is served: `serving` in its release.json; and what a body may hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trimtab.errors import ProtocolError, StateError
from trimtab.serving.keeping import Keeping


@dataclass(frozen=True)
class Limits:
    """The recipe's `serving` section as it was released; the defaults are the recipe's.

    Attributes:
        threads: threads inside an operator of the runtime.
        max_queue: requests waiting for the model; one more is answered 503 at once.
        max_body: largest request body, bytes, before and after decompression.
        keeping: what the journal keeps of the inputs of each row.
        max_elements: most values in a body of text.
    """

    threads: int = 1
    max_queue: int = 64
    max_body: int = 16 * 2**20
    keeping: Keeping = field(default_factory=Keeping)
    max_elements: int = 4_000_000

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> Limits:
        """From the keys threads, max_queue, max_body_mb, max_elements and what `Keeping.from_json` reads; absent ones
        have their defaults.

        Raises:
            StateError: a value is of another type or not positive.
        """
        default = cls()
        try:
            limits = cls(
                threads=int(section.get("threads", default.threads)),
                max_queue=int(section.get("max_queue", default.max_queue)),
                max_body=int(float(section.get("max_body_mb", default.max_body / 2**20)) * 2**20),
                keeping=Keeping.from_json(section),
                max_elements=int(section.get("max_elements", default.max_elements)),
            )
        except (TypeError, ValueError) as error:
            raise StateError(f"is not readable: {error}", where="release.json: serving") from None
        if min(limits.threads, limits.max_queue, limits.max_body, limits.max_elements) < 1:
            raise StateError(
                "threads, max_queue, max_body_mb and max_elements must be positive", where="release.json: serving"
            )
        return limits


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
