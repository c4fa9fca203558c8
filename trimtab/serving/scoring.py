"""POST /invocations: admit, read, answer, record, and only then acknowledge."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from trimtab.errors import ProtocolError
from trimtab.serving.answers import JSON_BYTES, failure, refusal
from trimtab.serving.body import read_body
from trimtab.serving.engine import Busy, ModelFailure
from trimtab.serving.limits import check_elements
from trimtab.serving.release import Loaded
from trimtab.serving.request_id import HEADER, request_id
from trimtab.serving.service import Service

VERSION, JOURNAL = "X-Trimtab-Version", "X-Trimtab-Journal"
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
        response = refusal(error, headers)
    except Busy as error:
        headers["Retry-After"] = RETRY_S
        response = failure(503, "TEMPORARILY_UNAVAILABLE", str(error), headers)
    except ClientDisconnect:
        response = Response(status_code=_CLIENT_GONE)
    service.metrics.requests.labels(response.status_code).inc()
    service.metrics.request_seconds.observe(time.perf_counter() - arrived)
    return response


async def _answer(service: Service, request: Request, headers: dict[str, str], arrived: float) -> Response:
    loaded = service.engine.current  # one release for the whole request, whatever is swapped meanwhile
    if loaded is None:
        raise Busy("no release is loaded yet")
    service.engine.admit(loaded)
    body = await read_body(request, loaded.limits.max_body)
    check_elements(body, loaded.limits.max_elements)
    headers[VERSION] = loaded.version
    try:
        scored = await service.engine.score(loaded, body, request.headers.get("content-type"))
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
