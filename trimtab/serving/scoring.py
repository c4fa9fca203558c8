"""A scoring request of any protocol: admit, read, answer, record, and only then acknowledge."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from trimtab.errors import ProtocolError
from trimtab.serving import images, media, trace, trying
from trimtab.serving.answers import JSON_BYTES, Fail, failure, refusal
from trimtab.serving.asked import Asked
from trimtab.serving.body import READ_S, read_body
from trimtab.serving.engine import Keep, Scored
from trimtab.serving.failures import Busy, ModelFailure, TooMany, Unwanted
from trimtab.serving.forms import Choose, Form, of_invocation
from trimtab.serving.lane import VERSION, Lane
from trimtab.serving.limits import check_elements
from trimtab.serving.patience import HEADER as TIMEOUT
from trimtab.serving.patience import Patience
from trimtab.serving.recording import Landing, Recorder
from trimtab.serving.request_id import HEADER, request_id
from trimtab.serving.routing import CHALLENGER
from trimtab.serving.routing import HEADER as ALIAS
from trimtab.serving.service import Service

JOURNAL = "X-Trimtab-Journal"
WATCH_S = 0.02  # a client that waits less is not watched: it would be answered before it is seen to be gone
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
    asked = Asked(request.scope["headers"])
    span = trace.traced(asked.get(trace.HEADER))
    headers = {trace.HEADER: span.header} if span is not None else {}
    try:
        headers[HEADER] = request_id(asked.get(HEADER))
        response = await _answer(service, request, asked, choose, fail, headers, arrived)
    except ProtocolError as error:
        response = refusal(error, fail, headers)
    except Busy as error:
        response = _refused(error, fail, headers)
    except Unwanted as error:
        response = _unwanted(service, error, fail, headers)
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
        patience: how long its answer is wanted.
        name: by its X-Request-Id, else ours. arrived: seconds of `time.perf_counter`.
        form: of the last release it was put to; None for MLflow's own protocol.
    """

    request: Request
    asked: Asked
    choose: Choose
    body: bytes
    patience: Patience
    name: str
    arrived: float
    form: Form | None = None

    async def __call__(self, lane: Lane) -> Scored:
        """Score; a client that has to wait is watched, and once it is gone, what it waits for is not run."""
        self.form = self.choose(lane.loaded, self.body, self.asked)
        patience = Patience(
            self.patience.expires, self.patience.gone
        )  # one release that takes too long says nothing of the next
        wait_s = lane.engine.wait_s(lane.loaded)
        watched = lane.engine.unfinished > 0 and (wait_s is None or wait_s >= WATCH_S)
        watch = asyncio.create_task(_until_gone(self.request, patience)) if watched else None
        try:
            return await self._put(lane, patience)
        finally:
            if watch is not None:
                watch.cancel()

    async def _put(self, lane: Lane, patience: Patience) -> Scored:
        if lane.recorder is None or lane.rescue is not None:  # which of the two releases answers is not known yet
            return await self._submit(lane, patience, None)
        landing = Landing(lane.recorder, lane.loaded, self.request_id, self.arrived, lane.engine.relieve)
        try:
            return await self._submit(lane, patience, landing)
        finally:
            landing.close()

    async def _submit(self, lane: Lane, patience: Patience, keep: Keep | None) -> Scored:
        kind, form = self.asked.get("content-type"), self.form
        if form is None:
            check_elements(self.body, lane.limits.max_elements)
            return await lane.engine.score(lane.loaded, self.body, kind, patience, keep)
        size = None if media.bare(kind) in images.TYPES else len(self.body)  # images take long to read
        return await lane.engine.submit(lane.loaded, form.parse, form.encode, size=size, patience=patience, keep=keep)

    def request_id(self) -> str:
        """A request is called what its X-Request-Id says, else what its body says, else as we called it."""
        told = self.form.request_id if self.form is not None and HEADER not in self.asked else None
        return told or self.name


async def _answer(
    service: Service,
    request: Request,
    asked: Asked,
    choose: Choose,
    fail: Fail,
    headers: dict[str, str],
    arrived: float,
) -> Response:
    patience = Patience.from_header(asked.get(TIMEOUT), time.monotonic())
    lane = service.lane(headers[HEADER], asked.get(ALIAS))
    with service.shares.held(request.client.host if request.client else "", lane.limits.max_per_client):
        lane.admit()
        left_s = patience.left_s()
        body = await read_body(request, lane.limits.max_body, READ_S if left_s is None else min(left_s, READ_S))
        headers |= (lane.rescue or lane).headers()
        question = _Question(request, asked, choose, body, patience, headers[HEADER], arrived)
        return await _put(service, lane, question, fail, headers)


async def _put(service: Service, lane: Lane, question: _Question, fail: Fail, headers: dict[str, str]) -> Response:
    try:
        answered = await trying.score(service, lane, question)
    except trying.Failed as error:
        headers[HEADER] = question.request_id()
        return await _failed(service, error.lane, error.cause, fail, headers, question.arrived)
    headers[HEADER] = question.request_id()
    lane, scored = answered.lane, answered.scored
    headers |= lane.headers()
    if lane.recorder is not None:
        headers[JOURNAL] = scored.kept or await _recorded(lane, lane.recorder, question, scored)
    service.metrics.rows.inc(len(scored.output))
    service.metrics.predict_seconds.observe(scored.predict_s)
    afterwards = trying.afterwards(service, headers[HEADER], answered)
    kind = JSON_BYTES if question.form is None else question.form.headers
    return Response(scored.body, headers={**headers, **kind}, background=afterwards)


async def _recorded(lane: Lane, recorder: Recorder, question: _Question, scored: Scored) -> str:
    """Have the rows of an answer written that did not come by the journal on its way."""
    latency = time.perf_counter() - question.arrived
    return await recorder.answered(lane.loaded, question.request_id(), scored.inputs, scored.output, latency)


async def _until_gone(request: Request, patience: Patience) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass  # nothing follows a whole body but the end of the connection
    patience.gone = True


def _refused(error: Busy, fail: Fail, headers: dict[str, str]) -> Response:
    headers["Retry-After"] = str(error.retry_s)
    status, code = (429, "REQUEST_LIMIT_EXCEEDED") if isinstance(error, TooMany) else (503, "TEMPORARILY_UNAVAILABLE")
    return fail(status, code, error.what, headers)


def _unwanted(service: Service, error: Unwanted, fail: Fail, headers: dict[str, str]) -> Response:
    service.metrics.unwanted.labels("gone" if error.gone else "deadline").inc()
    if error.gone:
        return Response(status_code=_CLIENT_GONE)
    return fail(408, "DEADLINE_EXCEEDED", error.what, headers)


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
