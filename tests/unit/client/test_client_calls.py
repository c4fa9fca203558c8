"""When a call is tried again, by its steps: no network, no clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.client import BadAnswer, DeadlineExceeded, Refused, Retries, Unavailable
from trimtab.client.calls import DEADLINE, Calls, Send, Wait
from trimtab.client.retrying import told_s

REQUEST = httpx.Request("POST", "http://service/invocations")
GOOD = httpx.Response(200, json={"predictions": {"p": [[1.0]]}}, request=REQUEST)


class World:
    """A clock that moves as told, and answers in order; what was sent and waited is kept."""

    def __init__(
        self, *answers: Any, timeout_s: float = 30.0, retries: Retries | None = None, takes_s: float = 0.0
    ) -> None:
        self.now, self.takes_s, self.answers = 0.0, takes_s, list(answers)
        self.sent: list[Send] = []
        self.waited: list[float] = []
        self.calls = Calls(timeout_s, retries or Retries(), clock=lambda: self.now, chance=lambda: 0.0)

    def run(self, steps: Any) -> Any:
        got = None
        try:
            while True:
                step = steps.send(got)
                got = self.do(step)
        except StopIteration as end:
            return end.value

    def do(self, step: Send | Wait) -> Any:
        if isinstance(step, Wait):
            self.waited.append(step.seconds)
            self.now += step.seconds
            return None
        self.sent.append(step)
        self.now += self.takes_s
        answer = self.answers.pop(0)
        if isinstance(answer, httpx.RequestError):
            answer.request = REQUEST
        return answer

    def predict(self) -> Any:
        return self.run(self.calls.predict(np.ones((1, 1)), None, None, None))


def busy(status: int = 503, **headers: str) -> httpx.Response:
    body = {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "64 requests are waiting"}
    return httpx.Response(status, json=body, headers=headers, request=REQUEST)


@pytest.mark.parametrize(
    "trouble",
    [busy(), busy(429), httpx.ConnectError("refused"), httpx.ReadError("cut"), httpx.RemoteProtocolError("gone")],
)
def test_what_may_pass_is_tried_again_under_the_same_request_id(trouble: Any) -> None:
    world = World(trouble, trouble, GOOD)

    answer = world.predict()

    ids = {sent.call.headers["X-Request-Id"] for sent in world.sent}
    assert len(world.sent) == 3
    assert ids == {answer.request_id}
    assert len(world.waited) == 2


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500])
def test_what_will_not_pass_is_asked_once(status: int) -> None:
    world = World(httpx.Response(status, json={"error_code": "X", "message": "y"}, request=REQUEST))

    with pytest.raises(Exception, match="y"):
        world.predict()
    assert len(world.sent) == 1


def test_waits_double_and_end_at_the_largest() -> None:
    world = World(*[busy()] * 6, GOOD, retries=Retries(attempts=7, first_s=1.0, most_s=4.0), timeout_s=100)

    world.predict()

    assert world.waited == [0.5, 1.0, 2.0, 2.0, 2.0, 2.0]  # the lower half: chance says 0


def test_nobody_comes_back_before_the_service_said() -> None:
    world = World(busy(**{"Retry-After": "3"}), GOOD)

    world.predict()

    assert world.waited == [3.0]


def test_after_the_last_attempt_the_services_own_words_are_told() -> None:
    world = World(*[busy()] * 4)

    with pytest.raises(Unavailable, match=r"64 requests are waiting \(4 attempts\)") as caught:
        world.predict()
    assert caught.value.status == 503
    assert caught.value.code == "TEMPORARILY_UNAVAILABLE"


def test_a_wait_that_the_time_does_not_allow_is_not_begun() -> None:
    world = World(busy(**{"Retry-After": "60"}), GOOD, timeout_s=10)

    with pytest.raises(Unavailable):
        world.predict()
    assert world.waited == []


def test_the_service_is_told_what_is_left_of_the_time() -> None:
    world = World(busy(), GOOD, timeout_s=10, takes_s=4, retries=Retries(first_s=2.0))

    world.predict()

    assert [sent.headers[DEADLINE] for sent in world.sent] == ["10000", "5000"]
    assert [sent.timeout_s for sent in world.sent] == [10, 5]


def test_no_answer_in_time_is_a_deadline_and_no_connection_is_not() -> None:
    with pytest.raises(DeadlineExceeded, match="within 10 s"):
        World(httpx.ReadTimeout("slow"), timeout_s=10, takes_s=10).predict()
    with pytest.raises(Unavailable, match="ConnectTimeout"):
        World(httpx.ConnectTimeout("nobody"), timeout_s=10, takes_s=10).predict()


def test_an_answer_that_cannot_be_decoded_is_not_asked_for_again() -> None:
    world = World(httpx.DecodingError("gzip"))

    with pytest.raises(BadAnswer, match="gzip"):
        world.predict()


@pytest.mark.parametrize(
    ("answer", "ready"),
    [
        (httpx.Response(200, json={"ready": True}, request=REQUEST), True),
        (busy(), False),
        (httpx.ConnectError("refused"), False),
    ],
)
def test_ready_is_asked_once_and_never_raises_for_what_it_asks(answer: Any, ready: bool) -> None:
    world = World(answer)

    assert world.run(world.calls.ready()) is ready
    assert len(world.sent) == 1


def test_ready_raises_where_it_may_not_ask() -> None:
    world = World(httpx.Response(404, json={"error_code": "ENDPOINT_NOT_FOUND", "message": "no"}, request=REQUEST))

    with pytest.raises(Refused):
        world.run(world.calls.ready())


def test_retry_after_is_read_as_seconds_or_as_a_date() -> None:
    now = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)

    assert told_s("7") == 7.0
    assert told_s(format_datetime(now + timedelta(seconds=90), usegmt=True), now) == 90.0
    assert told_s(format_datetime(now - timedelta(seconds=90), usegmt=True), now) == 0.0
    assert [told_s(text, now) for text in (None, "", "soon", "-3", "1.5")] == [None] * 5


@given(st.text())
def test_any_retry_after_header_is_none_or_some_seconds(text: str) -> None:
    assert (seconds := told_s(text)) is None or seconds >= 0


@given(st.integers(1, 200), st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 1e6))
def test_a_wait_is_never_shorter_than_told_nor_longer_than_the_largest(
    failed: int, chance: float, told: float | None
) -> None:
    wait = Retries(first_s=0.1, most_s=5.0).wait_s(failed, told, chance)

    assert wait >= (told or 0)
    assert wait <= max(5.0, 1.1 * (told or 0))


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"first_s": -1.0}, {"most_s": -1.0}])
def test_retries_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Retries(**wrong)
