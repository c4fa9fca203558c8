"""multipart/form-data (RFC 7578): the files of its parts, in their order; the parser is the package `multipart`."""

from __future__ import annotations

from trimtab.errors import ProtocolError
from trimtab.serving.media import JPEG, OCTETS, PNG

_TAKEN = (JPEG, PNG, OCTETS)
_BAD = "BAD_REQUEST"


def read_parts(body: bytes, content_type: str, most: int) -> list[bytes]:
    """The contents of all parts.

    Args:
        content_type: the header, with its boundary. most: largest number of parts.

    Raises:
        ProtocolError: no boundary, not such a body, a part that is not an image, or too many parts.
    """
    import multipart

    boundary = multipart.parse_options_header(content_type)[1].get("boundary")
    if not boundary:
        raise ProtocolError("lacks the boundary of its parts", where="Content-Type", code=_BAD)
    files: list[list[bytes]] = []
    try:
        with multipart.PushMultipartParser(boundary, content_length=len(body), max_segment_count=most) as parser:
            for event in parser.parse(body):
                if isinstance(event, multipart.MultipartSegment):
                    _check_type(event.content_type, len(files))
                    files.append([])
                elif event is not None:
                    files[-1].append(bytes(event))
    except multipart.ParserLimitReached:
        raise ProtocolError(
            f"has more than {most} parts, or a part with too long a header", where="body", code=_BAD, status=413
        ) from None
    except multipart.MultipartError:
        raise ProtocolError("the body is not whole multipart/form-data", code=_BAD) from None
    return [b"".join(pieces) for pieces in files]


def _check_type(content_type: str | None, place: int) -> None:
    """A part may leave its type out: what it is, its decoder sees."""
    if content_type is not None and content_type.partition(";")[0].strip().lower() not in _TAKEN:
        raise ProtocolError(f"must be one of {', '.join(_TAKEN)}", where=f"part {place}", code=_BAD, status=415)
