"""The ASGI application of a service: its routes, and one form for every error."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from trimtab import __version__
from trimtab.errors import ProtocolError
from trimtab.journal.wal import JournalError
from trimtab.serving import v2
from trimtab.serving.answers import answer, failure, failure_on, refusal
from trimtab.serving.auth import Guard
from trimtab.serving.body import read_body
from trimtab.serving.comparison import challenger, comparison
from trimtab.serving.drain import Gate
from trimtab.serving.health import why_not_alive, why_not_ready
from trimtab.serving.labels import parse_labels
from trimtab.serving.limits import Limits, check_elements
from trimtab.serving.openapi_pages import routes as openapi_routes
from trimtab.serving.reports import PASSIVE, contained_file, index, page
from trimtab.serving.scoring import invocations
from trimtab.serving.service import Service

SCORING = "/invocations"
_CODES = {403: "PERMISSION_DENIED", 404: "ENDPOINT_NOT_FOUND", 405: "BAD_REQUEST"}
_PAGES = {
    "/docs": "how to ask it, with an example",
    "/version": "what is served",
    "/ready": "whether it can score",
    "/ping": "whether it is alive",
    "/comparison": "what the challenger showed",
    "/metrics": "for Prometheus",
    "/reports/": "of verifications and windows",
}
_logger = logging.getLogger(__name__)
Endpoint = Callable[[Service, Request], Awaitable[Response]]


def build(service: Service) -> Starlette:
    """The application; it starts the service with its first event and closes it with its last.

    Scoring does not pass through the router and its middleware, which take longer than a small model.
    """

    def bound(endpoint: Endpoint, *, writes: bool = False) -> Callable[[Request], Awaitable[Response]]:
        async def call(request: Request) -> Response:
            if writes and _is_cross_origin(request):
                service.metrics.refused_requests.labels("origin").inc()
                raise HTTPException(403, "requests from other web pages are refused")
            return await endpoint(service, request)

        return call

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            service.close()

    scoring = bound(invocations, writes=True)
    reads = {
        "/ping": _ping, "/health": _ping, "/ready": _ready, "/version": _version, "/metrics": _metrics, "/": _index,
        "/comparison": comparison,
        "/reports": _reports, "/reports/": _reports, "/reports/{path:path}": _report,
    }  # fmt: skip
    routes = [
        Route(SCORING, scoring, methods=["POST"]),  # for its other methods, and where another application mounts this
        Route("/labels", bound(_labels, writes=True), methods=["POST"]),
        *(Route(path, bound(endpoint)) for path, endpoint in reads.items()),
        *v2.routes(bound),
        *openapi_routes(bound),
    ]
    handlers = {HTTPException: _http_error, ProtocolError: _protocol_error, Exception: _unexpected}
    direct = _direct(scoring)
    for door in reversed(_doors(service)):
        direct = door.cls(direct, *door.args, **door.kwargs)
    return _Application(
        direct, routes=routes, lifespan=lifespan, exception_handlers=handlers, middleware=_doors(service)
    )


class _Application(Starlette):
    """All routes, but scoring goes straight to its endpoint."""

    def __init__(self, direct: ASGIApp, **more: Any) -> None:
        super().__init__(**more)
        self._direct = direct

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and scope["path"] == SCORING and scope["method"] == "POST":
            await self._direct(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def _doors(service: Service) -> list[Middleware]:
    """What a request passes first: the token check, where the service has tokens, then the gate that drains."""
    gate = Middleware(Gate, service.drain, service.metrics)
    if service.tokens is None:
        return [gate]
    refused = service.metrics.refused_requests
    return [Middleware(Guard, tokens=service.tokens, refused=lambda reason: refused.labels(reason).inc()), gate]


def _direct(endpoint: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
    """An endpoint without a router and its middleware."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            response = await endpoint(request)
        except HTTPException as error:
            response = await _http_error(request, error)
        except Exception as error:
            response = await _unexpected(request, error)
        await response(scope, receive, send)

    return call


async def _ping(service: Service, request: Request) -> Response:
    """Alive: the process answers, and its model has not hung for long. Whether it can score is /ready."""
    reason = why_not_alive(service)
    if reason is not None:
        return answer({"alive": False, "reason": reason}, 503)
    return Response("\n", media_type="application/json")


async def _ready(service: Service, request: Request) -> Response:
    reason = why_not_ready(service)
    if reason is not None:
        return _not_ready(reason, {"Retry-After": "1"})
    loaded = service.engine.current
    return answer({"ready": True, "version": loaded.version if loaded is not None else None})


def _not_ready(reason: str, headers: Mapping[str, str] | None = None) -> Response:
    said = {"ready": False, "reason": reason, "error_code": "TEMPORARILY_UNAVAILABLE", "message": reason}
    return answer(said, 503, headers)


async def _version(service: Service, request: Request) -> Response:
    loaded, follower = service.engine.current, service.follower
    facts = loaded.facts if loaded is not None else {}
    state = follower.state if follower is not None else None
    return answer(
        {
            "name": service.name,
            "version": loaded.version if loaded is not None else None,
            **{key: facts.get(key) for key in ("candidate", "label", "target", "precision", "classes", "labels")},
            **{key: facts[key] for key in ("task", "metric", "outputs") if key in facts},
            "plan": loaded.plan.facts() if loaded is not None else None,
            "since_ns": loaded.since_ns if loaded is not None else None,
            "champion": state.wanted if state is not None else None,
            "refused": state.refusal if state is not None else None,
            "challenger": challenger(service),
            "registry_error": state.registry_error if state is not None else None,
            "trimtab": __version__,
        }
    )


async def _metrics(service: Service, request: Request) -> Response:
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)


async def _index(service: Service, request: Request) -> Response:
    loaded = service.engine.current
    version = loaded.version if loaded is not None else None
    vary = {"Vary": "Accept"}
    if "text/html" in request.headers.get("accept", ""):
        said = [
            f"Version {version} is served." if version is not None else "No release is loaded yet.",
            f"Scores are asked for with POST {SCORING} or below /v2, labels given with POST /labels.",
        ]
        shown = page(service.name, said, [(link.lstrip("/"), link, note) for link, note in _PAGES.items()])
        return HTMLResponse(shown, headers=vary | PASSIVE)
    links = [SCORING, "/labels", "/v2", "/openapi.json", *_PAGES]
    return answer({"name": service.name, "version": version, "links": links}, headers=vary)


async def _labels(service: Service, request: Request) -> Response:
    if service.recorder is None:
        return failure(503, "TEMPORARILY_UNAVAILABLE", "this service keeps no journal")
    loaded = service.engine.current
    limits = loaded.limits if loaded is not None else Limits()
    body = await read_body(request, limits.max_body)
    check_elements(body, limits.max_elements)
    classes = loaded.classes if loaded is not None else None
    regression = loaded is not None and loaded.regression
    entries = parse_labels(body, request.headers.get("content-type"), classes, regression)
    try:
        known = await service.record_labels(entries)
    except JournalError as error:
        return failure(503, "TEMPORARILY_UNAVAILABLE", f"labels not recorded: {error.what}", {"Retry-After": "5"})
    counts = {"known": sum(known), "unknown": len(known) - sum(known)}
    for outcome, count in counts.items():
        service.metrics.labels.labels(outcome).inc(count)
    return answer({"accepted": len(known), **counts}, 202)


async def _reports(service: Service, request: Request) -> Response:
    prefix = "" if request.url.path.endswith("/") else "reports/"
    listed = await run_in_threadpool(index, service.reports, service.name, prefix)
    return HTMLResponse(listed, headers=PASSIVE)


async def _report(service: Service, request: Request) -> Response:
    found = contained_file(service.reports, request.path_params["path"])
    if found is None:
        raise HTTPException(404)
    return FileResponse(found, headers={"X-Content-Type-Options": "nosniff"})


def _is_cross_origin(request: Request) -> bool:
    """Whether a page of another origin sent it. Browsers always say so; a body without a type needs no preflight."""
    if all(name != b"origin" for name, _ in request.scope["headers"]):
        return False
    origin = request.headers.get("origin")
    return origin is not None and origin.partition("://")[2] != request.headers.get("host")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "BAD_REQUEST")
    return failure_on(request.scope["path"])(error.status_code, code, str(error.detail), error.headers)


async def _protocol_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProtocolError)
    return refusal(error, failure_on(request.scope["path"]))


async def _unexpected(request: Request, error: Exception) -> Response:
    if not isinstance(error, ClientDisconnect):
        _logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return failure_on(request.scope["path"])(500, "INTERNAL_ERROR", "an internal error; it is logged", None)
