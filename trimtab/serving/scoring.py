"""POST /invocations: admit, read, answer, record, and only then acknowledge."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from trimtab.errors import ProtocolError
from trimtab.serving.answers import JSON_BYTES, failure
from trimtab.serving.body import READ_S, read_body
from trimtab.serving.engine import Scored
from trimtab.serving.failures import Busy, ModelFailure, TooMany, Unwanted
from trimtab.serving.patience import HEADER as TIMEOUT
from trimtab.serving.patience import Patience
from trimtab.serving.release import Loaded
from trimtab.serving.request_id import HEADER, request_id
from trimtab.serving.service import Service

VERSION, JOURNAL = "X-Trimtab-Version", "X-Trimtab-Journal"
WATCH_S = 0.02  # a client that waits less is not watched: it would be answered before it is seen to be gone
_CLIENT_GONE = 499  # nobody reads it; only counted
_logger = logging.getLogger(__name__)


async def invocations(service: Service, request: Request) -> Response:
    """Answer one scoring request; an error is an answer too."""
    arrived = time.perf_counter()
    headers: dict[str, str] = {}
    try:
        headers[HEADER] = request_id(request.headers.get(HEADER))
        response = await _answer(service, request, headers, arrived)
    except ProtocolError as error:
        message = f"{error.where}: {error.what}" if error.where else error.what
        response = failure(error.status, error.code, f"{message}; {error.fix}" if error.fix else message, headers)
    except Busy as error:
        response = _refused(error, headers)
    except Unwanted as error:
        response = _unwanted(service, error, headers)
    except ClientDisconnect:
        response = Response(status_code=_CLIENT_GONE)
    service.metrics.requests.labels(response.status_code).inc()
    service.metrics.request_seconds.observe(time.perf_counter() - arrived)
    return response


async def _answer(service: Service, request: Request, headers: dict[str, str], arrived: float) -> Response:
    patience = Patience.from_header(request.headers.get(TIMEOUT), time.monotonic())
    loaded = service.engine.current  # one release for the whole request, whatever is swapped meanwhile
    if loaded is None:
        raise Busy("no release is loaded yet")
    with service.shares.held(request.client.host if request.client else "", loaded.limits.max_per_client):
        service.engine.admit(loaded)
        left_s = patience.left_s()
        body = await read_body(request, loaded.limits.max_body, READ_S if left_s is None else min(left_s, READ_S))
        headers[VERSION] = loaded.version
        try:
            scored = await _scored(service, loaded, request, body, patience)
        except ModelFailure as error:
            return await _failed(service, loaded, error, headers, arrived)
        if service.recorder is not None:
            latency = time.perf_counter() - arrived
            headers[JOURNAL] = await service.recorder.answered(
                loaded, headers[HEADER], scored.inputs, scored.output, latency
            )
    service.metrics.rows.inc(len(scored.output))
    service.metrics.predict_seconds.observe(scored.predict_s)
    return Response(scored.body, headers={**headers, **JSON_BYTES})


async def _scored(service: Service, loaded: Loaded, request: Request, body: bytes, patience: Patience) -> Scored:
    """Score; a client that has to wait is watched, and once it is gone, what it waits for is not run."""
    wait_s = service.engine.wait_s(loaded)
    watched = service.engine.unfinished > 0 and (wait_s is None or wait_s >= WATCH_S)
    watch = asyncio.create_task(_until_gone(request, patience)) if watched else None
    try:
        return await service.engine.score(loaded, body, request.headers.get("content-type"), patience)
    finally:
        if watch is not None:
            watch.cancel()


async def _until_gone(request: Request, patience: Patience) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass  # nothing follows a whole body but the end of the connection
    patience.gone = True


def _refused(error: Busy, headers: dict[str, str]) -> Response:
    headers["Retry-After"] = str(error.retry_s)
    status, code = (429, "REQUEST_LIMIT_EXCEEDED") if isinstance(error, TooMany) else (503, "TEMPORARILY_UNAVAILABLE")
    return failure(status, code, error.what, headers)


def _unwanted(service: Service, error: Unwanted, headers: dict[str, str]) -> Response:
    service.metrics.unwanted.labels("gone" if error.gone else "deadline").inc()
    if error.gone:
        return Response(status_code=_CLIENT_GONE)
    return failure(408, "DEADLINE_EXCEEDED", error.what, headers)


async def _failed(
    service: Service, loaded: Loaded, error: ModelFailure, headers: dict[str, str], arrived: float
) -> Response:
    _logger.error("version %s: %s", loaded.version, error, exc_info=error.__cause__)
    service.metrics.model_errors.labels(error.kind).inc()
    inputs: Mapping = error.inputs
    if service.recorder is not None:
        latency = time.perf_counter() - arrived
        headers[JOURNAL] = await service.recorder.failed(loaded, headers[HEADER], inputs, error.kind, latency)
    return failure(500, "INTERNAL_ERROR", "the model failed on this request; it is counted and logged", headers)
