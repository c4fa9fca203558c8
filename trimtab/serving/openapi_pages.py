"""/openapi.json, and /docs: the same as a page, which needs no network and runs no script."""

from __future__ import annotations

import html
import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from trimtab.serving.answers import failure
from trimtab.serving.openapi import ERRORS, EXAMPLE, document, example, plain
from trimtab.serving.openapi_schemas import Tensors
from trimtab.serving.release import Loaded
from trimtab.serving.reports import PASSIVE, styled
from trimtab.serving.service import Service
from trimtab.serving.v2 import Bound

LARGEST_SHOWN = 400  # characters of a body that is pasted; a longer one is fetched from EXAMPLE first


def routes(bound: Bound) -> list[Route]:
    """The routes of this file."""
    return [
        Route("/openapi.json", bound(_openapi)),
        Route(EXAMPLE, bound(_example)),
        Route("/docs", bound(_docs)),
    ]


def page(document: Mapping[str, Any], loaded: Loaded | None, address: str) -> str:
    """The document as HTML.

    Args:
        document: the OpenAPI document. address: of the service, as the reader's browser names it.
    """
    title = f"{document['info']['title']}, version {document['info']['version']}"
    parts = [*_example_lines(loaded, address), *_tensors(loaded), *_operations(document), *_errors()]
    return styled(title, "\n".join(parts))


def command(loaded: Loaded, address: str) -> str:
    """A shell command that scores a golden row."""
    url, kind = shlex.quote(f"{address}/invocations"), "-H 'Content-Type: application/json'"
    body = json.dumps(plain(example(loaded)))
    if len(body) <= LARGEST_SHOWN:
        return f"curl -s {url} {kind} -d {shlex.quote(body)}"
    return f"curl -s {shlex.quote(address + EXAMPLE)} | curl -s {url} {kind} --data-binary @-"


async def _openapi(service: Service, request: Request) -> Response:
    shown = orjson.dumps(document(service.name, service.engine.current), option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(shown, media_type="application/json", headers={"Cache-Control": "no-cache"})


async def _example(service: Service, request: Request) -> Response:
    body = example(service.engine.current)
    if not body:
        return failure(503, "TEMPORARILY_UNAVAILABLE", "no release with an example is loaded yet", {"Retry-After": "1"})
    return Response(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


async def _docs(service: Service, request: Request) -> Response:
    loaded = service.engine.current
    shown = page(document(service.name, loaded), loaded, str(request.base_url).rstrip("/"))
    return HTMLResponse(shown, headers=PASSIVE)


def _example_lines(loaded: Loaded | None, address: str) -> Iterator[str]:
    yield "<h2>Try it</h2>"
    if loaded is None or not loaded.example:
        yield "<p>No release with an example is loaded yet.</p>"
        return
    yield "<p>A row that was verified with this release:</p>"
    yield f"<pre>{html.escape(command(loaded, address))}</pre>"


def _tensors(loaded: Loaded | None) -> Iterator[str]:
    if loaded is None:
        return
    spec = loaded.predictor.spec
    for title, tensors in (("Inputs", spec["inputs"]), ("Outputs", spec["outputs"])):
        yield f"<h2>{title}</h2>"
        yield _table(("name", "dtype", "shape"), _rows(tensors))


def _rows(tensors: Tensors) -> Iterator[tuple[str, ...]]:
    for tensor in tensors:
        yield str(tensor["name"]), str(tensor["dtype"]), f"({', '.join(map(str, tensor['shape']))})"


def _operations(document: Mapping[str, Any]) -> Iterator[str]:
    yield '<h2>Endpoints</h2>\n<p>As OpenAPI: <a href="openapi.json">openapi.json</a></p>'
    lines = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            taken = ", ".join(operation.get("requestBody", {}).get("content", {}))
            lines.append((f"{method.upper()} {path}", operation["summary"], taken))
    yield _table(("endpoint", "what for", "bodies taken"), lines)


def _errors() -> Iterator[str]:
    yield "<h2>Errors</h2>\n<p>{error_code, message}; below /v2 {error}.</p>"
    yield _table(("status", "when"), ERRORS.items())


def _table(head: tuple[str, ...], rows: Any) -> str:
    def line(cells: tuple[str, ...], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "\n".join(["<table>", line(head, "th"), *(line(row, "td") for row in rows), "</table>"])
