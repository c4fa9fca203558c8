"""A request's body, read with a limit on its size and its time."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from trimtab.errors import ProtocolError

READ_S = 30.0


async def read_body(request: Request, limit: int, read_s: float = READ_S) -> bytes:
    """The whole body.

    Args:
        limit: bytes; holds for a body without Content-Length (chunked) as well.
        read_s: longest time a client may take to send it.

    Raises:
        ProtocolError: 413 too large, 408 too slow, 415 compressed.
        starlette.requests.ClientDisconnect: the client went away.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ProtocolError("must be identity", where="Content-Encoding", code="BAD_REQUEST", status=415)
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    chunks, size, more = [], 0, True
    try:
        async with asyncio.timeout(read_s):
            while more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk, more = message.get("body", b""), message.get("more_body", False)
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                chunks.append(chunk)
    except TimeoutError:
        raise ProtocolError(
            f"the body was not sent within {read_s:g} s", code="DEADLINE_EXCEEDED", status=408
        ) from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(limit: int) -> ProtocolError:
    return ProtocolError(
        f"the body is larger than {limit} bytes", fix="send fewer rows a request", code="BAD_REQUEST", status=413
    )
