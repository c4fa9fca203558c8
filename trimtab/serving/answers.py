"""The form of answers that are not predictions: JSON, errors as the protocol of the path writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from starlette.responses import Response

from trimtab.errors import ProtocolError

JSON_BYTES = {"Content-Type": "application/json"}
Headers = Mapping[str, str]
Fail = Callable[[int, str, str, Headers | None], Response]
# Every answer of status 400 or more. /ready has `ready` and `reason` besides.
ERROR_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Error",
    "type": "object",
    "required": ["error_code", "message"],
    "properties": {
        "error_code": {
            "description": "for programs; one of a few words, MLflow's where MLflow has one",
            "enum": [
                "BAD_REQUEST",
                "INVALID_PARAMETER_VALUE",
                "UNAUTHENTICATED",
                "PERMISSION_DENIED",
                "REQUEST_LIMIT_EXCEEDED",
                "RESOURCE_DOES_NOT_EXIST",
                "NOT_FOUND",
                "ENDPOINT_NOT_FOUND",
                "DEADLINE_EXCEEDED",
                "INTERNAL_ERROR",
                "TEMPORARILY_UNAVAILABLE",
            ],
        },
        "message": {
            "description": "for people: where (the input, the index, the header), what, and how to mend it",
            "type": "string",
            "minLength": 1,
        },
    },
}


def answer(value: Any, status: int = 200, headers: Headers | None = None) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(value), status, {**(headers or {}), **JSON_BYTES})


def failure(status: int, code: str, message: str, headers: Headers | None = None) -> Response:
    """An error in the form of `ERROR_SCHEMA`, as MLflow's clients expect it."""
    return answer({"error_code": code, "message": message}, status, headers)


def oip_failure(status: int, code: str, message: str, headers: Headers | None = None) -> Response:
    """An error of the Open Inference Protocol: {"error"}; the status is all the code it has."""
    return answer({"error": message}, status, headers)


def failure_on(path: str) -> Fail:
    """How errors are written on a path."""
    return oip_failure if path == "/v2" or path.startswith("/v2/") else failure


def refusal(error: ProtocolError, fail: Fail = failure, headers: Headers | None = None) -> Response:
    """The answer to a request that cannot be read: where, what, and how to mend it."""
    message = f"{error.where}: {error.what}" if error.where else error.what
    return fail(error.status, error.code, f"{message}; {error.fix}" if error.fix else message, headers)
