"""The media types of a scoring request: what its body is (Content-Type) and what its answer is to be (Accept)."""

from __future__ import annotations

from trimtab.errors import ProtocolError

JSON, CSV = "application/json", "text/csv"
OCTETS, NPY = "application/octet-stream", "application/x-npy"
ARROW = "application/vnd.apache.arrow.stream"
JPEG, PNG, MULTIPART = "image/jpeg", "image/png", "multipart/form-data"
TAKEN = (JSON, CSV, OCTETS, NPY, ARROW, JPEG, PNG, MULTIPART)
GIVEN = (JSON, OCTETS, NPY, ARROW)
_ANYTHING = ("*/*", "application/*")


def media_type(header: str | None) -> str:
    """JSON or CSV; no header means JSON. A charset parameter may say utf-8, in any case, spacing or quotes.

    Raises:
        ProtocolError: 415 for another type, another charset, or another parameter (which is named).
    """
    if header is None or not header.strip():
        return JSON
    kind, *parameters = (part.strip() for part in header.split(";"))
    if kind.lower() not in (JSON, CSV):
        raise _unsupported(f"must be one of {', '.join(TAKEN)}")
    for parameter in filter(None, parameters):
        name, _, value = parameter.partition("=")
        if name.strip().lower() != "charset":
            raise _unsupported(f"has the unknown parameter {name.strip()[:40]!r}")
        if value.strip().strip("\"'").lower() not in ("utf-8", "utf8"):
            raise _unsupported("must have the charset utf-8")
    return kind.lower()


def bare(header: str | None) -> str:
    """The type a Content-Type names, in lower case, without its parameters; JSON where there is none."""
    return (header or "").partition(";")[0].strip().lower() or JSON


def answer_type(accept: str | None) -> str:
    """What the client wants to be answered in: of what can be given, the one it prefers (RFC 9110, 12.5.1).

    JSON where it does not say, where it takes anything, and where it names nothing that can be given: MLflow's server
    never looks, and clients send what their library puts there.
    """
    if accept is None:
        return JSON
    best, best_weight = JSON, 0.0
    for part in accept.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        wanted = JSON if kind in _ANYTHING else kind
        weight = _weight(parameters)
        if wanted in GIVEN and weight > best_weight:
            best, best_weight = wanted, weight
    return best


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


def _unsupported(what: str) -> ProtocolError:
    return ProtocolError(what, where="Content-Type", code="BAD_REQUEST", status=415)
