"""The Content-Type header of a scoring request."""

from __future__ import annotations

from trimtab.errors import ProtocolError

JSON, CSV = "application/json", "text/csv"


def media_type(header: str | None) -> str:
    """JSON or CSV; no header means JSON. A charset parameter may say utf-8, in any case, spacing or quotes.

    Raises:
        ProtocolError: 415 for another type, another charset, or another parameter (which is named).
    """
    if header is None or not header.strip():
        return JSON
    kind, *parameters = (part.strip() for part in header.split(";"))
    if kind.lower() not in (JSON, CSV):
        raise _unsupported(f"must be {JSON} or {CSV}")
    for parameter in filter(None, parameters):
        name, _, value = parameter.partition("=")
        if name.strip().lower() != "charset":
            raise _unsupported(f"has the unknown parameter {name.strip()[:40]!r}")
        if value.strip().strip("\"'").lower() not in ("utf-8", "utf8"):
            raise _unsupported("must have the charset utf-8")
    return kind.lower()


def _unsupported(what: str) -> ProtocolError:
    return ProtocolError(what, where="Content-Type", code="BAD_REQUEST", status=415)
