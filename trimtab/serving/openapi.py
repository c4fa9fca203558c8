"""The OpenAPI 3.1 document of a service, made from the signature of the release that serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from trimtab.serving import images, media
from trimtab.serving.openapi_schemas import schemas
from trimtab.serving.patience import HEADER as TIMEOUT
from trimtab.serving.raw import DTYPE, INPUT, SHAPE
from trimtab.serving.release import Loaded
from trimtab.serving.request_id import HEADER, PATTERN
from trimtab.serving.routing import HEADER as ALIAS
from trimtab.serving.v2 import MODEL, VERSIONED
from trimtab.serving.v2_inference import HEADER_LENGTH

LARGEST_INLINE = 4096  # values of an example that stands in the document; a larger one is fetched from EXAMPLE
EXAMPLE = "/example"
ERRORS = {
    "400": "the request cannot be read or does not fit the model; the message names the first place",
    "401": "a token is needed, where the service has tokens",
    "403": "the token lacks the scope, or the request comes from a web page of another origin",
    "408": "the body was not sent in time, or the request's own deadline passed",
    "413": "the body is too large",
    "415": "a Content-Type, charset or Content-Encoding that is not taken",
    "429": "this client has too many unfinished requests; see Retry-After",
    "500": "the model failed",
    "503": "no release is loaded, or too many requests wait; see Retry-After",
}
_REFERENCE = "#/components/schemas/"


def document(name: str, loaded: Loaded | None) -> dict[str, Any]:
    """The document; without a release it says nothing of tensors.

    Args:
        name: of the service. loaded: what serves.
    """
    spec: Mapping[str, Any] = loaded.predictor.spec if loaded is not None else {"inputs": [], "outputs": []}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": name,
            "version": loaded.version if loaded is not None else "none",
            "description": "Scoring by MLflow's protocol and by the Open Inference Protocol (KServe v2).",
        },
        "servers": [{"url": "/"}],
        "paths": {**_scoring(name, loaded), **_v2(), **_pages()},
        "components": {"schemas": schemas(spec["inputs"], spec["outputs"], _classes(loaded))},
    }


def example(loaded: Loaded | None) -> dict[str, Any]:
    """A body for /invocations that works: one golden row of every input, as arrays; empty without a release."""
    return {"inputs": dict(loaded.example)} if loaded is not None and loaded.example else {}


def _classes(loaded: Loaded | None) -> int | None:
    """How many classes a label may name; None of a regression."""
    if loaded is None:
        return 2**31
    return None if loaded.regression else loaded.classes


def _scoring(name: str, loaded: Loaded | None) -> dict[str, Any]:
    answers = {media.JSON: {"schema": _ref("Predictions")}, **{kind: {} for kind in media.GIVEN[1:]}}
    pictures = images.TYPES if loaded is not None and images.takes_images(loaded) else ()
    others = (kind for kind in media.TAKEN[1:] if kind in pictures or kind not in images.TYPES)
    taken = {media.JSON: _json_example(loaded), **{kind: {} for kind in others}}
    own = (TIMEOUT, ALIAS, SHAPE, DTYPE, INPUT)
    headers = [_header(HEADER, PATTERN), _header("traceparent"), *map(_header, own)]
    scored = {"200": {"description": "the answer; X-Trimtab-Version says whose", "content": answers}}
    accepted = _object_response("taken", ["accepted", "known", "unknown"])
    return {
        "/invocations": {
            "post": _operation(f"Score rows with {name}", {**scored, **_errors("Error")}, taken, headers)
        },
        "/labels": {
            "post": _operation(
                "Give true labels of rows that were answered", {"202": accepted, **_errors("Error")},
                {media.JSON: {"schema": _ref("Labels")}},
            )
        },
    }  # fmt: skip


def _v2() -> dict[str, Any]:
    model = [_path("name")]
    content = {media.JSON: {"schema": _ref("V2Response")}, media.OCTETS: {}}
    answered = {"200": {"description": "the outputs asked for", "content": content}}
    body = {media.JSON: {"schema": _ref("V2Request")}, media.OCTETS: {}}
    headers = [_header(HEADER, PATTERN), *map(_header, ("traceparent", TIMEOUT, ALIAS, HEADER_LENGTH))]
    found = {**_object_response_200("what there is"), **_errors("V2Error", "404", "503")}
    paths: dict[str, Any] = {
        "/v2": {"get": _operation("What this server is", _object_response_200("name, version, extensions"))},
        "/v2/health/live": {"get": _operation("Whether it is alive", _object_response_200("it is"))},
        "/v2/health/ready": {
            "get": _operation("Whether it can score", {**_object_response_200("it can"), **_errors("V2Error", "503")})
        },
    }
    errors = _errors("V2Error", *ERRORS, "404")
    for base, known in ((MODEL, model), (VERSIONED, [*model, _path("version")])):
        paths[base] = {"get": _operation("The model's inputs and outputs", found, parameters=known)}
        paths[f"{base}/ready"] = {"get": _operation("Whether the model can score", found, parameters=known)}
        paths[f"{base}/infer"] = {"post": _operation("Score rows", {**answered, **errors}, body, [*known, *headers])}
    return paths


def _pages() -> dict[str, Any]:
    ready = {**_object_response_200("it can"), **_errors("Error", "503")}
    text = {"200": {"description": "text"}}
    return {
        "/ping": {"get": _operation("Whether the process is alive", text)},
        "/health": {"get": _operation("Whether the process is alive", text)},
        "/ready": {"get": _operation("Whether it can score", ready)},
        "/version": {"get": _operation("What serves", _object_response_200("what serves"))},
        "/comparison": {"get": _operation("What the challenger showed", _object_response_200("by pair of versions"))},
        "/metrics": {"get": _operation("Figures for Prometheus", text)},
        "/reports/": {"get": _operation("The list of HTML reports", text)},
        "/openapi.json": {"get": _operation("This document", _object_response_200("the document"))},
        EXAMPLE: {"get": _operation("A body for /invocations that works", _object_response_200("the body"))},
        "/docs": {"get": _operation("This document as a page", text)},
    }


def _json_example(loaded: Loaded | None) -> dict[str, Any]:
    """The schema of a JSON body, with a golden row where it is small, else with where to fetch one."""
    body = example(loaded)
    entry: dict[str, Any] = {"schema": _ref("Invocation")}
    if not body:
        return entry
    small = sum(values.size for values in body["inputs"].values()) <= LARGEST_INLINE
    shown = {"value": plain(body)} if small else {"externalValue": EXAMPLE}
    return {**entry, "examples": {"golden": {"summary": "a row that was verified with this release", **shown}}}


def plain(value: Any) -> Any:
    """The same with lists for arrays, float32 in its shortest form."""
    return orjson.loads(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))


def _operation(
    summary: str,
    responses: Mapping[str, Any],
    content: Mapping[str, Any] | None = None,
    parameters: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    body = {"requestBody": {"required": True, "content": dict(content)}} if content is not None else {}
    known = {"parameters": list(parameters)} if parameters else {}
    return {"summary": summary, **known, **body, "responses": dict(responses)}


def _errors(schema: str, *statuses: str) -> dict[str, Any]:
    content = {media.JSON: {"schema": _ref(schema)}}
    said = {**ERRORS, "404": "there is no such model, or not in this version"}
    return {status: {"description": said[status], "content": content} for status in sorted(statuses or ERRORS)}


def _object_response(what: str, keys: Sequence[str] = ()) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", **({"required": list(keys)} if keys else {})}
    return {"description": what, "content": {media.JSON: {"schema": schema}}}


def _object_response_200(what: str) -> dict[str, Any]:
    return {"200": _object_response(what)}


def _header(name: str, pattern: str | None = None) -> dict[str, Any]:
    schema = {"type": "string", **({"pattern": f"^{pattern}$"} if pattern else {})}
    return {"name": name, "in": "header", "required": False, "schema": schema}


def _path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _ref(schema: str) -> dict[str, str]:
    return {"$ref": _REFERENCE + schema}
