"""MLflow's REST interface, as much as is asked of it without importing mlflow (1.6 s and 300 MB)."""

from __future__ import annotations

import functools
import json
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from trimtab.errors import RegistryError

TIMEOUT = httpx.Timeout(10.0, connect=5.0)  # seconds, each for one step: connect, one chunk read or written
API = "/api/2.0/mlflow"


@contextmanager
def rest(tracking_uri: str) -> Iterator[httpx.Client]:
    """A client of an MLflow server, for as long as the block.

    Raises:
        RegistryError: in place of whatever httpx raises in it: the server does not answer.
    """
    try:
        with httpx.Client(base_url=tracking_uri, timeout=TIMEOUT, auth=_auth(), verify=_tls()) as client:
            yield client
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise RegistryError(
            f"the MLflow server does not answer: {error or type(error).__name__}",
            where=tracking_uri,
            fix="see that it runs (`trimtab status`) and read its log",
        ) from None


@functools.cache
def _tls() -> ssl.SSLContext:
    """Loading the certificates takes longer (40 ms) than everything else in a poll; once a process is enough."""
    return httpx.create_ssl_context()


def _auth() -> httpx.BasicAuth | None:
    """The user and password that the MLflow client reads too."""
    user, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
    return httpx.BasicAuth(user, password) if user and password else None


def answered(response: httpx.Response) -> httpx.Response:
    """The same response, if it is 200; raises as `check_ok` does."""
    check_ok(response)
    return response


def check_ok(response: httpx.Response) -> None:
    """See that the answer is 200.

    Raises:
        RegistryError: it is another; its text is in the message.
    """
    if response.status_code != httpx.codes.OK:
        raise RegistryError(
            f"MLflow answered {response.status_code}: {response.text[:300]}", where=str(response.request.url)
        )


def json_object(response: httpx.Response) -> dict[str, Any]:
    """The body of an answer of any status.

    Raises:
        RegistryError: it is no JSON object.
    """
    try:
        value = json.loads(response.content)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        check_ok(response)
        raise RegistryError("the answer is not a JSON object", where=str(response.request.url))
    return value
