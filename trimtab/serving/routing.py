"""Which release answers a request: a pure function of its id and one header.

The share of a canary is sticky: a request id lies at one place between 0 and 100, for ever, so a client that repeats a
request gets the same release, and raising the percentage only adds requests to those that were in it.

Example: with percent 10, the ids whose place is below 10 are the challenger's; with 20, these and those up to 20.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Literal

from trimtab.errors import ProtocolError
from trimtab.serving.trial import Trial

Alias = Literal["champion", "challenger"]
CHAMPION: Alias = "champion"
CHALLENGER: Alias = "challenger"
HEADER = "X-Trimtab-Alias"  # of a request: who is to answer; of an answer: who did
_BITS = 53  # a float's mantissa: every place is exact, and below 100


def place(request_id: str, purpose: str) -> float:
    """Where a request lies in [0, 100): evenly spread, always the same; purposes are independent of each other."""
    digest = blake2b(f"{purpose}:{request_id}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> (64 - _BITS)) / 2**_BITS * 100


def alias_for(request_id: str, asked: str | None, trial: Trial | None) -> Alias:
    """Who is to answer.

    Args:
        request_id: the client's, or ours.
        asked: value of the request's header; None without it.
        trial: how the challenger is tried; None where none is loaded.

    Raises:
        ProtocolError: 400, the header names no alias; 404, it asks for a challenger that does not answer.
    """
    if asked is None:
        chosen = trial is not None and place(request_id, "canary") < trial.canary_percent
        return CHALLENGER if chosen else CHAMPION
    wanted = asked.strip().lower()
    if wanted == CHAMPION:
        return CHAMPION
    if wanted != CHALLENGER:
        raise ProtocolError(f"must be {CHAMPION} or {CHALLENGER}", where=HEADER)
    if trial is None:
        raise _absent("no challenger is loaded")
    if not trial.by_header:
        raise _absent("the challenger does not answer by header: serving.canary is off in its release")
    return CHALLENGER


def is_shadowed(request_id: str, trial: Trial) -> bool:
    """Whether a copy of a request that the champion answered goes to the challenger."""
    return place(request_id, "shadow") < trial.shadow_percent


def _absent(what: str) -> ProtocolError:
    return ProtocolError(what, where=HEADER, code="RESOURCE_DOES_NOT_EXIST", status=404)
