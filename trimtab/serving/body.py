"""A request's body, read with a limit on its size, its time, and what it becomes when it is decompressed."""

from __future__ import annotations

import asyncio
import zlib

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from trimtab.errors import ProtocolError

READ_S = 30.0
WHOLE = "trimtab.whole"  # of the ASGI scope, where it is true: the body has come, and nothing is waited for
_GZIP = 16 + zlib.MAX_WBITS  # the gzip container (RFC 1952), and no other
_CODING, _LENGTH = b"content-encoding", b"content-length"
_OF_BODIES = frozenset((_CODING, _LENGTH))


async def read_body(request: Request, limit: int, read_s: float = READ_S) -> bytes:
    """The whole body, decompressed where it is gzip.

    Args:
        limit: bytes; holds for a body without Content-Length (chunked) as well, and again after decompression.
        read_s: longest time a client may take to send it.

    Raises:
        ProtocolError: 400 not gzip although it says so, 408 too slow, 413 too large, 415 compressed in another way.
        starlette.requests.ClientDisconnect: the client went away.
    """
    named = {name: value for name, value in request.scope["headers"] if name in _OF_BODIES}
    coding = "identity"
    if _CODING in named:
        coding = ",".join(request.headers.getlist(_CODING.decode())).strip().lower() or coding
    if coding not in ("identity", "gzip"):
        raise ProtocolError("must be gzip or identity", where="Content-Encoding", code="BAD_REQUEST", status=415)
    length = named.get(_LENGTH, b"")
    if length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    if request.scope.get(WHOLE):
        body = await _collected(request, limit)
    else:
        try:
            async with asyncio.timeout(read_s):
                body = await _collected(request, limit)
        except TimeoutError:
            raise ProtocolError(
                f"the body was not sent within {read_s:g} s", code="DEADLINE_EXCEEDED", status=408
            ) from None
    # A few kilobytes can become the whole limit, which takes tens of milliseconds: not on the event loop.
    return body if coding == "identity" else await run_in_threadpool(decompressed, body, limit)


async def _collected(request: Request, limit: int) -> bytes:
    chunks, size, more = [], 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def decompressed(body: bytes, limit: int) -> bytes:
    """The content of one gzip member; never more than `limit` bytes and one are made of it.

    Raises:
        ProtocolError: 400 it is no gzip, cut off, damaged, or more follows; 413 it holds more than `limit` bytes.
    """
    engine = zlib.decompressobj(_GZIP)
    try:
        content = engine.decompress(body, limit + 1)
    except zlib.error:
        raise _not_gzip("is not gzip, or damaged") from None
    if len(content) > limit:
        raise _too_large(limit)
    if not engine.eof:
        raise _not_gzip("ends before its gzip data do")
    if engine.unused_data:
        # Members may follow one another (RFC 1952, 2.2); nobody writes requests so, and thousands of empty ones would
        # cost time without a byte of content.
        raise _not_gzip("has data behind its gzip member")
    return content


def _not_gzip(what: str) -> ProtocolError:
    return ProtocolError(f"the body {what}", where="Content-Encoding", code="BAD_REQUEST")


def _too_large(limit: int) -> ProtocolError:
    return ProtocolError(
        f"the body is larger than {limit} bytes", fix="send fewer rows a request", code="BAD_REQUEST", status=413
    )
