"""The form of answers that are not predictions: JSON, errors as the protocol of the path writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from starlette.responses import Response

JSON_BYTES = {"Content-Type": "application/json"}
Headers = Mapping[str, str]
Fail = Callable[[int, str, str, Headers | None], Response]


def answer(value: Any, status: int = 200, headers: Headers | None = None) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(value), status, {**(headers or {}), **JSON_BYTES})


def failure(status: int, code: str, message: str, headers: Headers | None = None) -> Response:
    """An error: {"error_code", "message"}, as MLflow's clients expect it."""
    return answer({"error_code": code, "message": message}, status, headers)


def oip_failure(status: int, code: str, message: str, headers: Headers | None = None) -> Response:
    """An error of the Open Inference Protocol: {"error"}; the status is all the code it has."""
    return answer({"error": message}, status, headers)


def failure_on(path: str) -> Fail:
    """How errors are written on a path."""
    return oip_failure if path == "/v2" or path.startswith("/v2/") else failure
