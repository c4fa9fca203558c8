"""A scoring request of any protocol: admit, read, answer, record, and only then acknowledge."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from trimtab.errors import ProtocolError
from trimtab.serving import trace
from trimtab.serving.answers import JSON_BYTES, Fail, failure
from trimtab.serving.body import read_body
from trimtab.serving.engine import Busy, ModelFailure
from trimtab.serving.forms import Choose, Form, of_invocation
from trimtab.serving.release import Loaded
from trimtab.serving.request_id import HEADER, request_id
from trimtab.serving.service import Service

VERSION, JOURNAL = "X-Trimtab-Version", "X-Trimtab-Journal"
RETRY_S = "1"
_CLIENT_GONE = 499  # nobody reads it; only counted
_logger = logging.getLogger(__name__)


async def invocations(service: Service, request: Request) -> Response:
    """POST /invocations: MLflow's protocol, raw tensors, images."""
    return await respond(service, request, of_invocation, failure)


async def respond(service: Service, request: Request, choose: Choose, fail: Fail) -> Response:
    """Answer one scoring request; an error is an answer too.

    Args:
        choose: gives the request's form. fail: writes an error as the protocol has it.
    """
    arrived = time.perf_counter()
    span = trace.traced(request.headers.get(trace.HEADER))
    headers = {trace.HEADER: span.header} if span is not None else {}
    try:
        headers[HEADER] = request_id(request.headers.get(HEADER))
        response = await _answer(service, request, choose, fail, headers, arrived)
    except ProtocolError as error:
        message = f"{error.where}: {error.what}" if error.where else error.what
        response = fail(error.status, error.code, f"{message}; {error.fix}" if error.fix else message, headers)
    except Busy as error:
        headers["Retry-After"] = RETRY_S
        response = fail(503, "TEMPORARILY_UNAVAILABLE", str(error), headers)
    except ClientDisconnect:
        response = Response(status_code=_CLIENT_GONE)
    service.metrics.requests.labels(response.status_code).inc()
    took_s = time.perf_counter() - arrived
    service.metrics.request_seconds.observe(took_s)
    if span is not None and span.sampled:
        _log(span, headers, response.status_code, took_s)
    return response


async def _answer(
    service: Service, request: Request, choose: Choose, fail: Fail, headers: dict[str, str], arrived: float
) -> Response:
    loaded = service.engine.current  # one release for the whole request, whatever is swapped meanwhile
    if loaded is None:
        raise Busy("no release is loaded yet")
    service.engine.admit(loaded)
    body = await read_body(request, loaded.limits.max_body)
    headers[VERSION] = loaded.version
    form = choose(loaded, body, request.headers)
    try:
        if form is None:
            scored = await service.engine.score(loaded, body, request.headers.get("content-type"))
        else:
            scored = await service.engine.submit(loaded, form.parse, form.encode)
    except ModelFailure as error:
        _name(headers, request, form)
        return await _failed(service, loaded, error, fail, headers, arrived)
    _name(headers, request, form)
    if service.recorder is not None:
        latency = time.perf_counter() - arrived
        headers[JOURNAL] = await service.recorder.answered(
            loaded, headers[HEADER], scored.inputs, scored.output, latency
        )
    service.metrics.rows.inc(len(scored.output))
    service.metrics.predict_seconds.observe(scored.predict_s)
    return Response(scored.body, headers={**headers, **(form.headers if form is not None else JSON_BYTES)})


def _name(headers: dict[str, str], request: Request, form: Form | None) -> None:
    """A request is called what its X-Request-Id says, else what its body says, else as we called it."""
    if form is not None and form.request_id is not None and HEADER not in request.headers:
        headers[HEADER] = form.request_id


async def _failed(
    service: Service, loaded: Loaded, error: ModelFailure, fail: Fail, headers: dict[str, str], arrived: float
) -> Response:
    _logger.error("version %s: %s", loaded.version, error, exc_info=error.__cause__)
    service.metrics.model_errors.labels(error.kind).inc()
    inputs: Mapping = error.inputs
    if service.recorder is not None:
        latency = time.perf_counter() - arrived
        headers[JOURNAL] = await service.recorder.failed(loaded, headers[HEADER], inputs, error.kind, latency)
    return fail(500, "INTERNAL_ERROR", "the model failed on this request; it is counted and logged", headers)


def _log(span: trace.Trace, headers: Mapping[str, str], status: int, took_s: float) -> None:
    """One line for a request its caller samples: what joins the caller's trace with the journal's request id."""
    _logger.info(
        "scored",
        extra={
            **{"trace_id": span.trace, "span_id": span.span, "parent_id": span.parent},
            **{"request_id": headers.get(HEADER), "version": headers.get(VERSION), "journal": headers.get(JOURNAL)},
            **{"status": status, "took_ms": round(took_s * 1000, 3)},
        },
    )
