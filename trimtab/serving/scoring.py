"""A scoring request of any protocol: admit, read, answer, record, and only then acknowledge."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from trimtab.errors import ProtocolError
from trimtab.serving import trace, trying
from trimtab.serving.answers import JSON_BYTES, Fail, failure
from trimtab.serving.body import read_body
from trimtab.serving.engine import Busy, ModelFailure, Scored
from trimtab.serving.forms import Choose, Form, of_invocation
from trimtab.serving.lane import VERSION, Lane
from trimtab.serving.request_id import HEADER, request_id
from trimtab.serving.routing import CHALLENGER
from trimtab.serving.routing import HEADER as ALIAS
from trimtab.serving.service import Service

JOURNAL = "X-Trimtab-Journal"
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


@dataclass
class _Question:
    """A request that was read; it may be put to more than one release, and each reads it by its own signature.

    Attributes:
        form: of the last release it was put to; None for MLflow's own protocol.
    """

    choose: Choose
    body: bytes
    headers: Mapping[str, str]
    form: Form | None = None

    async def __call__(self, lane: Lane) -> Scored:
        self.form = self.choose(lane.loaded, self.body, self.headers)
        if self.form is None:
            return await lane.engine.score(lane.loaded, self.body, self.headers.get("content-type"))
        return await lane.engine.submit(lane.loaded, self.form.parse, self.form.encode)

    def name(self, headers: dict[str, str]) -> None:
        """A request is called what its X-Request-Id says, else what its body says, else as we called it."""
        if self.form is not None and self.form.request_id is not None and HEADER not in self.headers:
            headers[HEADER] = self.form.request_id


async def _answer(
    service: Service, request: Request, choose: Choose, fail: Fail, headers: dict[str, str], arrived: float
) -> Response:
    lane = service.lane(headers[HEADER], request.headers.get(ALIAS))
    lane.admit()
    question = _Question(choose, await read_body(request, lane.limits.max_body), request.headers)
    headers |= (lane.rescue or lane).headers()
    try:
        answered = await trying.score(service, lane, question)
    except trying.Failed as error:
        question.name(headers)
        return await _failed(service, error.lane, error.cause, fail, headers, arrived)
    question.name(headers)
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
    kind = JSON_BYTES if question.form is None else question.form.headers
    return Response(scored.body, headers={**headers, **kind}, background=afterwards)


async def _failed(
    service: Service, lane: Lane, error: ModelFailure, fail: Fail, headers: dict[str, str], arrived: float
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
