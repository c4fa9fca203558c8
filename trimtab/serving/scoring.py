"""POST /invocations: admit, read, answer, record, and only then acknowledge."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from trimtab.errors import ProtocolError
from trimtab.serving import trying
from trimtab.serving.answers import JSON_BYTES, failure
from trimtab.serving.body import read_body
from trimtab.serving.engine import Busy, ModelFailure
from trimtab.serving.lane import Lane
from trimtab.serving.request_id import HEADER, request_id
from trimtab.serving.routing import CHALLENGER
from trimtab.serving.routing import HEADER as ALIAS
from trimtab.serving.service import Service

JOURNAL = "X-Trimtab-Journal"
RETRY_S = "1"
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
        headers["Retry-After"] = RETRY_S
        response = failure(503, "TEMPORARILY_UNAVAILABLE", str(error), headers)
    except ClientDisconnect:
        response = Response(status_code=_CLIENT_GONE)
    service.metrics.requests.labels(response.status_code).inc()
    service.metrics.request_seconds.observe(time.perf_counter() - arrived)
    return response


async def _answer(service: Service, request: Request, headers: dict[str, str], arrived: float) -> Response:
    lane = service.lane(headers[HEADER], request.headers.get(ALIAS))
    lane.admit()
    body = await read_body(request, lane.limits.max_body)
    headers |= (lane.rescue or lane).headers()
    try:
        answered = await trying.score(service, lane, body, request.headers.get("content-type"))
    except trying.Failed as error:
        return await _failed(service, error.lane, error.cause, headers, arrived)
    lane, scored = answered.lane, answered.scored
    headers |= lane.headers()
    if lane.recorder is not None:
        latency = time.perf_counter() - arrived
        headers[JOURNAL] = await lane.recorder.answered(
            lane.loaded, headers[HEADER], scored.inputs, scored.output, latency
        )
    service.metrics.rows.inc(len(scored.output))
    service.metrics.predict_seconds.observe(scored.predict_s)
    afterwards = trying.afterwards(service, headers[HEADER], answered)
    return Response(scored.body, headers={**headers, **JSON_BYTES}, background=afterwards)


async def _failed(
    service: Service, lane: Lane, error: ModelFailure, headers: dict[str, str], arrived: float
) -> Response:
    headers |= lane.headers()
    _logger.error("version %s: %s", lane.loaded.version, error, exc_info=error.__cause__)
    service.metrics.model_errors.labels(error.kind).inc()
    inputs: Mapping = error.inputs
    if lane.recorder is not None:
        latency = time.perf_counter() - arrived
        headers[JOURNAL] = await lane.recorder.failed(lane.loaded, headers[HEADER], inputs, error.kind, latency)
    if lane.alias == CHALLENGER:
        trying.note(service, lane.loaded.version, headers[HEADER], len(next(iter(inputs.values()))), error.kind)
    return failure(500, "INTERNAL_ERROR", "the model failed on this request; it is counted and logged", headers)
