"""The two clients: the same calls, driven by blocking I/O and by asyncio."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, TypeVar

import httpx

from trimtab.client.calls import Calls, Got, Send, Steps, Wait
from trimtab.client.retrying import Retries
from trimtab.client.wire import Answer, Encoding, Inputs, Label, LabelCounts, Served

CONNECT_S = 5.0
Result = TypeVar("Result")


class ScoringClient:
    """A client that blocks. Thread-safe; keeps its connections open, so close it or use it in a `with` block.

    Args:
        url: of the service, e.g. "http://127.0.0.1:8080".
        token: sent as a bearer token; None for a service that asks for none.
        timeout: seconds a call may take with all its attempts; the service is told what is left of them.
        retries: attempts after the first one, or `Retries` with their waits. Tried again are 429, 503 and connections
            that failed, never before a Retry-After, always under the same request id.
        encoding: "json", or "binary" for the tensors' bytes, where the service takes them.
        verify: whether, or by what, an https service's certificate is verified.
        transport: of httpx, for tests.

    Raises:
        ValueError: an address, token or number that cannot be used.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        timeout: float = 30.0,
        retries: int | Retries = 3,
        *,
        encoding: Encoding = "json",
        verify: ssl.SSLContext | bool = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._calls = _calls(timeout, retries, encoding)
        self._http = httpx.Client(**_options(url, token), verify=verify, transport=transport)

    def predict(
        self,
        inputs: Inputs,
        *,
        request_id: str | None = None,
        alias: str | None = None,
        encoding: Encoding | None = None,
    ) -> Answer:
        """Score arrays.

        Args:
            inputs: name → array (batch, ...), or one array where the model has one input.
            request_id: 1 to 128 letters, digits and . _ : -; a new one is made for None.
            alias: who is to answer, "champion" or "challenger"; None leaves it to the service.
            encoding: instead of the client's.

        Raises:
            DataError: the arrays cannot be sent. ScoringError: the kind says why the call failed.
        """
        return self._run(self._calls.predict(inputs, request_id, alias, encoding))

    def invoke(self, form: Mapping[str, Any], *, request_id: str | None = None, alias: str | None = None) -> Answer:
        """Score a body in one of the service's JSON forms, e.g. {"dataframe_split": {"columns": …, "data": …}}."""
        return self._run(self._calls.invoke(form, request_id, alias))

    def labels(self, labels: Iterable[Label]) -> LabelCounts:
        """Give the truth about rows that were answered; all labels are taken or none."""
        return self._run(self._calls.labels(labels))

    def version(self) -> Served:
        """What serves, and what the service knows of the champion."""
        return self._run(self._calls.version())

    def ready(self) -> bool:
        """Whether the service can score now; False also where nobody answers."""
        return self._run(self._calls.ready())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> ScoringClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, steps: Steps[Result]) -> Result:
        got: Got = None
        try:
            while True:
                got = self._do(steps.send(got))
        except StopIteration as end:
            result: Result = end.value
            return result

    def _do(self, step: Send | Wait) -> Got:
        if isinstance(step, Wait):
            time.sleep(step.seconds)
            return None
        try:
            return self._http.request(**_request(step))
        except httpx.RequestError as error:
            return error


class AsyncScoringClient:
    """The same for asyncio; `async with`, and every call is awaited. Arguments as of `ScoringClient`."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        timeout: float = 30.0,
        retries: int | Retries = 3,
        *,
        encoding: Encoding = "json",
        verify: ssl.SSLContext | bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._calls = _calls(timeout, retries, encoding)
        self._http = httpx.AsyncClient(**_options(url, token), verify=verify, transport=transport)

    async def predict(
        self,
        inputs: Inputs,
        *,
        request_id: str | None = None,
        alias: str | None = None,
        encoding: Encoding | None = None,
    ) -> Answer:
        """As `ScoringClient.predict`."""
        return await self._run(self._calls.predict(inputs, request_id, alias, encoding))

    async def invoke(
        self, form: Mapping[str, Any], *, request_id: str | None = None, alias: str | None = None
    ) -> Answer:
        """As `ScoringClient.invoke`."""
        return await self._run(self._calls.invoke(form, request_id, alias))

    async def labels(self, labels: Iterable[Label]) -> LabelCounts:
        """As `ScoringClient.labels`."""
        return await self._run(self._calls.labels(labels))

    async def version(self) -> Served:
        """As `ScoringClient.version`."""
        return await self._run(self._calls.version())

    async def ready(self) -> bool:
        """As `ScoringClient.ready`."""
        return await self._run(self._calls.ready())

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncScoringClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, steps: Steps[Result]) -> Result:
        got: Got = None
        while True:
            try:
                step = steps.send(got)
            except StopIteration as end:
                result: Result = end.value
                return result
            got = await self._do(step)

    async def _do(self, step: Send | Wait) -> Got:
        if isinstance(step, Wait):
            await asyncio.sleep(step.seconds)
            return None
        try:
            return await self._http.request(**_request(step))
        except httpx.RequestError as error:
            return error


def _calls(timeout: float, retries: int | Retries, encoding: Encoding) -> Calls:
    if not 0 < timeout < float("inf"):
        raise ValueError(f"timeout={timeout}: must be seconds, more than 0")
    if encoding not in ("json", "binary"):
        raise ValueError(f"encoding={encoding!r}: must be 'json' or 'binary'")
    return Calls(timeout, retries if isinstance(retries, Retries) else Retries(attempts=retries + 1), encoding)


def _options(url: str, token: str | None) -> dict[str, Any]:
    """What both kinds of httpx client are made with."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"url={url!r}: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"url={url!r}: must be like http://127.0.0.1:8080")
    if token is not None and not (token and token.isascii() and token.isprintable() and " " not in token):
        raise ValueError("token: must be printable ASCII without blanks")
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    # A proxy of the environment cannot reach this machine's loopback.
    return {"base_url": parsed, "headers": headers, "trust_env": not _is_loopback(parsed.host)}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _request(step: Send) -> dict[str, Any]:
    timeout = httpx.Timeout(step.timeout_s, connect=min(step.timeout_s, CONNECT_S))
    call = step.call
    return {
        "method": call.method,
        "url": call.path,
        "content": call.content,
        "headers": step.headers,
        "timeout": timeout,
    }
