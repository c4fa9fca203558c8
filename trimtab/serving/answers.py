"""The form of answers that are not predictions: JSON, errors as MLflow writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

JSON_BYTES = {"Content-Type": "application/json"}


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(value), status, {**(headers or {}), **JSON_BYTES})


def failure(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error: {"error_code", "message"}, as MLflow's clients expect it."""
    return answer({"error_code": code, "message": message}, status, headers)
