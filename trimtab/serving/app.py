"""The ASGI application of a service: its routes, and one form for every error."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route

from trimtab import __version__
from trimtab.errors import ProtocolError
from trimtab.journal.wal import JournalError
from trimtab.serving.answers import answer, failure, refusal
from trimtab.serving.auth import Guard
from trimtab.serving.body import read_body
from trimtab.serving.labels import parse_labels
from trimtab.serving.limits import Limits, check_elements
from trimtab.serving.reports import contained_file, index, page
from trimtab.serving.scoring import invocations
from trimtab.serving.service import Service

HANGING_S = 30.0
_CODES = {403: "PERMISSION_DENIED", 404: "ENDPOINT_NOT_FOUND", 405: "BAD_REQUEST"}
_PAGES = {
    "/version": "what is served",
    "/ready": "whether it can score",
    "/ping": "whether it is alive",
    "/metrics": "for Prometheus",
    "/reports/": "of verifications and windows",
}
_PASSIVE = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}
_logger = logging.getLogger(__name__)
Endpoint = Callable[[Service, Request], Awaitable[Response]]


def build(service: Service) -> Starlette:
    """The application; it starts the service with its first event and closes it with its last."""

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

    reads = {
        "/ping": _ping, "/health": _ping, "/ready": _ready, "/version": _version, "/metrics": _metrics, "/": _index,
        "/reports": _reports, "/reports/": _reports, "/reports/{path:path}": _report,
    }  # fmt: skip
    routes = [
        Route("/invocations", bound(invocations, writes=True), methods=["POST"]),
        Route("/labels", bound(_labels, writes=True), methods=["POST"]),
        *(Route(path, bound(endpoint)) for path, endpoint in reads.items()),
    ]
    handlers = {HTTPException: _http_error, ProtocolError: _protocol_error, Exception: _unexpected}
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers, middleware=_guard(service))


def _guard(service: Service) -> list[Middleware]:
    """The token check, where the service has tokens."""
    if service.tokens is None:
        return []
    refused = service.metrics.refused_requests
    return [Middleware(Guard, tokens=service.tokens, refused=lambda reason: refused.labels(reason).inc())]


async def _ping(service: Service, request: Request) -> Response:
    """Alive: the process answers. Whether it can score is /ready."""
    return Response("\n", media_type="application/json")


async def _ready(service: Service, request: Request) -> Response:
    loaded = service.engine.current
    if loaded is None:
        return _not_ready("no release is loaded yet", {"Retry-After": "1"})
    if service.engine.longest_s > HANGING_S:
        return _not_ready(f"one request has run for over {HANGING_S:g} s")
    return answer({"ready": True, "version": loaded.version})


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
            "since_ns": loaded.since_ns if loaded is not None else None,
            "champion": state.champion if state is not None else None,
            "refused": {"version": state.refused, "reason": state.reason}
            if state is not None and state.refused is not None
            else None,
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
            "Scores are asked for with POST /invocations, labels given with POST /labels.",
        ]
        shown = page(service.name, said, [(link.lstrip("/"), link, note) for link, note in _PAGES.items()])
        return HTMLResponse(shown, headers=vary | _PASSIVE)
    links = ["/invocations", "/labels", *_PAGES]
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
        known = await service.recorder.labels(entries)
    except JournalError as error:
        return failure(503, "TEMPORARILY_UNAVAILABLE", f"labels not recorded: {error.what}", {"Retry-After": "5"})
    counts = {"known": sum(known), "unknown": len(known) - sum(known)}
    for outcome, count in counts.items():
        service.metrics.labels.labels(outcome).inc(count)
    return answer({"accepted": len(known), **counts}, 202)


async def _reports(service: Service, request: Request) -> Response:
    prefix = "" if request.url.path.endswith("/") else "reports/"
    listed = await run_in_threadpool(index, service.reports, service.name, prefix)
    return HTMLResponse(listed, headers=_PASSIVE)


async def _report(service: Service, request: Request) -> Response:
    found = contained_file(service.reports, request.path_params["path"])
    if found is None:
        raise HTTPException(404)
    return FileResponse(found, headers={"X-Content-Type-Options": "nosniff"})


def _is_cross_origin(request: Request) -> bool:
    """Whether a page of another origin sent it. Browsers always say so; a body without a type needs no preflight."""
    origin = request.headers.get("origin")
    return origin is not None and origin.partition("://")[2] != request.headers.get("host")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "BAD_REQUEST")
    return failure(error.status_code, code, str(error.detail), error.headers)


async def _protocol_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProtocolError)
    return refusal(error)


async def _unexpected(request: Request, error: Exception) -> Response:
    if not isinstance(error, ClientDisconnect):
        _logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return failure(500, "INTERNAL_ERROR", "an internal error; it is logged")
