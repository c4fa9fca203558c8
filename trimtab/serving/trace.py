"""W3C Trace Context (Recommendation of 23 November 2021): a request is a span of its caller's trace.

A valid `traceparent` is answered by one of the same trace with a span of ours, so that what the caller records and what
our log says can be joined. A request that its caller samples is one line of the log, with trace, span and request id.
There is no line, no header and no cost for a request without one, and an invalid one is as none, as the standard says.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

HEADER = "traceparent"
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED, _KNOWN_FLAGS = 0x01, 0x03  # sampled, and level 2's "random trace id"


@dataclass(frozen=True)
class Trace:
    """One request in a trace: ids in lower-case hex, `parent` is the caller's span, `span` ours."""

    trace: str
    parent: str
    span: str
    flags: int

    @property
    def header(self) -> str:
        """The `traceparent` of our span."""
        return f"00-{self.trace}-{self.span}-{self.flags:02x}"

    @property
    def sampled(self) -> bool:
        """Whether the caller records this trace."""
        return bool(self.flags & _SAMPLED)


def traced(header: str | None) -> Trace | None:
    """A new span below the one a `traceparent` names; None where there is none, or it is not valid."""
    found = _FORM.fullmatch(header.strip()) if header is not None else None
    if found is None:
        return None
    version, trace, parent, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not int(trace, 16) or not int(parent, 16):
        return None
    return Trace(trace, parent, secrets.token_hex(8), int(flags, 16) & _KNOWN_FLAGS)
