"""Each call as steps: what to send, how long to wait, what the answer means. No network and no clock of its own.

A step generator yields `Send` or `Wait`; who drives it sends back the response or the error of the transport. So the
blocking and the asynchronous client share everything but the driving.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from trimtab.client import wire
from trimtab.client.errors import BadAnswer, DeadlineExceeded, ScoringError, Unavailable
from trimtab.client.retrying import RETRIED, Retries, told_s

DEADLINE = "X-Request-Timeout-Ms"
Result = TypeVar("Result")
Got = httpx.Response | httpx.RequestError | None


@dataclass(frozen=True)
class Send:
    """Send a request; the answer, or the transport's error, comes back."""

    call: wire.Call
    timeout_s: float

    @property
    def headers(self) -> dict[str, str]:
        """The request's headers, with the milliseconds that are left: work nobody waits for need not be done."""
        return {**self.call.headers, DEADLINE: str(max(1, int(1000 * self.timeout_s)))}


@dataclass(frozen=True)
class Wait:
    """Wait so many seconds."""

    seconds: float


Steps = Generator[Send | Wait, Got, Result]


@dataclass(frozen=True)
class Calls:
    """The calls of one service, all under the same rules.

    Attributes:
        timeout_s: seconds a call may take with all its attempts and waits.
        clock: seconds that only go forward. chance: random numbers from 0 up to 1.
    """

    timeout_s: float
    retries: Retries
    encoding: wire.Encoding = "json"
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random

    def predict(
        self, inputs: wire.Inputs, request_id: str | None, alias: str | None, encoding: wire.Encoding | None
    ) -> Steps[wire.Answer]:
        """Arrays in, arrays out."""
        headers = wire.asking(request_id, alias)
        return self._answered(wire.predict_call(inputs, encoding or self.encoding, headers))

    def invoke(self, form: Mapping[str, Any], request_id: str | None, alias: str | None) -> Steps[wire.Answer]:
        """One of the JSON forms in, arrays out."""
        return self._answered(wire.form_call(form, wire.asking(request_id, alias)))

    def labels(self, labels: Iterable[wire.Label]) -> Steps[wire.LabelCounts]:
        """Labels; the last one for a row counts, so that they may be given again."""
        return self._read(wire.labels_call(labels), wire.read_labels)

    def version(self) -> Steps[wire.Served]:
        """What serves."""
        return self._read(wire.Call("GET", "/version"), wire.read_served)

    def ready(self) -> Steps[bool]:
        """Whether it can score now; asked once."""
        got = yield Send(wire.Call("GET", "/ready"), self.timeout_s)
        if not isinstance(got, httpx.Response) or got.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            return False
        wire.read_object(got)
        return True

    def _answered(self, call: wire.Call) -> Steps[wire.Answer]:
        return self._read(call, lambda response: wire.read_answer(response, call.headers[wire.REQUEST_ID]))

    def _read(self, call: wire.Call, read: Callable[[httpx.Response], Result]) -> Steps[Result]:
        response = yield from self._exchange(call)
        return read(response)

    def _exchange(self, call: wire.Call) -> Steps[httpx.Response]:
        """Send until there is an answer that is not worth another attempt, or no time for one.

        Every attempt carries the same request id, so its rows have one name, however often they arrive.
        """
        deadline, failed = self.clock() + self.timeout_s, 0
        while True:
            got = yield Send(call, max(deadline - self.clock(), 0.001))
            if isinstance(got, httpx.Response) and got.status_code not in RETRIED:
                return got
            failed += 1
            asked = told_s(got.headers.get("Retry-After")) if isinstance(got, httpx.Response) else None
            wait = self.retries.wait_s(failed, asked, self.chance())
            worthless = isinstance(got, httpx.RequestError) and not isinstance(got, httpx.TransportError)
            if worthless or failed >= self.retries.attempts or self.clock() + wait >= deadline:
                raise _trouble(got, failed, self.timeout_s)
            yield Wait(wait)


def _trouble(got: Got, failed: int, timeout_s: float) -> ScoringError:
    tried = f" ({failed} attempts)" if failed > 1 else ""
    if isinstance(got, httpx.Response):
        error = wire.failure(got)
        return type(error)(
            error.message + tried, status=error.status, code=error.code, where=error.where, fix=error.fix
        )
    where = str(got.request.url) if got is not None else ""
    if isinstance(got, httpx.TimeoutException) and not isinstance(got, httpx.ConnectTimeout):
        return DeadlineExceeded(f"no answer within {timeout_s:g} s{tried}", where=where, fix="give it a longer timeout")
    text = f"{type(got).__name__}: {got}" if str(got) else type(got).__name__
    if isinstance(got, httpx.TransportError):
        return Unavailable(f"no answer: {text}{tried}", where=where, fix="see that the service runs: `trimtab status`")
    return BadAnswer(text, where=where, fix="see what listens there")
