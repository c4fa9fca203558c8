"""Too much work, and work that nobody waits for: refused early, or not run."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest
from engine_world import SHARING, Softmax, loaded, play, until

from trimtab.errors import ProtocolError
from trimtab.journal.reader import end
from trimtab.journal.wal import Journal
from trimtab.serving.app import build
from trimtab.serving.failures import TooMany, Unwanted
from trimtab.serving.patience import Patience
from trimtab.serving.plan import Plan
from trimtab.serving.service import Service
from trimtab.serving.shares import Shares

ONE = {"instances": [[0.0, 1.0, 2.0]]}
TIMEOUT = "X-Request-Timeout-Ms"


@pytest.fixture
def service(tmp_path):
    return Service("tiny", tmp_path / "reports", Journal(tmp_path / "journal"))


class Gate:
    """Holds the first call of a model until it is opened."""

    def __init__(self):
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self, inputs):
        self.entered.set()
        assert self.opened.wait(20)


class Caller:
    """A client on the application itself, which may go away while it waits.

    Attributes:
        status: of the answer; None while there is none.
    """

    def __init__(self, application, headers=(), address="10.0.0.1"):
        self.application, self.address, self.status, self.body = application, address, None, b""
        self.headers = [(b"content-type", b"application/json"), *headers]
        self._gone = asyncio.Event()
        self._asked = False

    async def ask(self):
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": "/invocations", "raw_path": b"/invocations", "query_string": b"", "root_path": "",
            "headers": self.headers, "client": (self.address, 1234), "server": ("testserver", 80),
        }  # fmt: skip
        await self.application(scope, self._receive, self._send)
        return self.status

    def leave(self):
        self._gone.set()

    async def _receive(self):
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": json.dumps(ONE).encode(), "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        if message["type"] == "http.response.start":
            self.status, self.answer_headers = message["status"], dict(message["headers"])
        else:
            self.body += message["body"]


def with_one_in_the_model(service, release, script):
    """Run a script(application, first request, its gate) while the first request is in the model."""

    async def whole(client):
        service.swap(release)
        application, gate = build(service), release.predictor.before
        first = asyncio.create_task(Caller(application).ask())
        await until(gate.entered.is_set)
        try:
            return await script(application, first, gate)
        finally:
            gate.opened.set()
            assert await first == 200

    return play(service, whole)


def test_work_of_a_client_that_went_away_while_it_waited_is_not_run(service, tmp_path):
    predictor = Softmax(Gate())

    async def script(application, first, gate):
        leaving, staying = Caller(application), Caller(application)
        tasks = [asyncio.create_task(caller.ask()) for caller in (leaving, staying)]
        await until(lambda: service.engine.unfinished == 3)
        leaving.leave()
        await asyncio.sleep(0.02)
        gate.opened.set()
        return await asyncio.gather(*tasks)

    assert with_one_in_the_model(service, loaded(predictor=predictor), script) == [499, 200]
    assert predictor.calls == [1, 1]
    assert end(tmp_path / "journal") == 2
    assert service.metrics.registry.get_sample_value("trimtab_unwanted_total", {"reason": "gone"}) == 1


def test_a_client_that_waits_shortly_is_not_watched(service):
    quick = Plan(shares=True, took=(0.0, 1e-6, 1.5e-6), max_wait_s=1.0)
    predictor = Softmax(Gate())

    async def script(application, first, gate):
        caller = Caller(application)
        task = asyncio.create_task(caller.ask())
        await until(lambda: service.engine.unfinished == 2)
        caller.leave()
        gate.opened.set()
        return await task

    assert with_one_in_the_model(service, loaded(predictor=predictor, plan=quick), script) == 200


@pytest.mark.parametrize("plan", [Plan(), SHARING])
def test_at_its_deadline_a_request_is_answered_and_not_run(service, tmp_path, plan):
    predictor = Softmax(Gate())

    async def script(application, first, gate):
        caller = Caller(application, [(TIMEOUT.lower().encode(), b"30")])
        status = await caller.ask()  # while the model is still busy with the first one
        gate.opened.set()
        return status, json.loads(caller.body)["error_code"]

    release = loaded(predictor=predictor, plan=plan)
    assert with_one_in_the_model(service, release, script) == (408, "DEADLINE_EXCEEDED")
    assert predictor.calls == [1]
    assert end(tmp_path / "journal") == 1
    assert service.metrics.registry.get_sample_value("trimtab_unwanted_total", {"reason": "deadline"}) == 1
    assert service.engine.unfinished == 0


def test_a_deadline_that_is_met_changes_nothing(service):
    async def script(client):
        service.swap(loaded())
        return (await client.post("/invocations", json=ONE, headers={TIMEOUT: "60000"})).status_code

    assert play(service, script) == 200


@pytest.mark.parametrize("bad", ["", "0", "-5", "1.5", "soon", "1" * 10, "٣", "1e3", " 5 5"])
def test_a_deadline_that_is_no_number_of_milliseconds_is_refused(service, bad):
    async def script(client):
        service.swap(loaded())
        return await client.post("/invocations", json=ONE, headers={TIMEOUT: bad.encode()})

    answer = play(service, script)
    assert answer.status_code == 400
    assert TIMEOUT in answer.json()["message"]


def test_the_deadline_also_holds_for_a_body_that_comes_slowly(service):
    class Slow(Caller):
        async def _receive(self):
            if not self._asked:
                self._asked = True
                return {"type": "http.request", "body": b'{"instances"', "more_body": True}
            await asyncio.sleep(10)
            raise AssertionError("waited beyond the deadline")

    async def script(client):
        service.swap(loaded())
        return await Slow(build(service), [(TIMEOUT.lower().encode(), b"30")]).ask()

    assert play(service, script) == 408


def test_patience_ends_at_the_deadline_or_when_the_client_is_gone():
    patience = Patience.from_header("1500", 100.0)
    assert not patience.over(101.4)
    assert patience.over(101.5)
    assert not Patience().over(1e9)
    assert Patience(gone=True).over(0.0)
    assert Patience().left_s() is None
    assert Patience(time.monotonic() - 1).left_s() == 0
    with pytest.raises(Unwanted):
        Patience(time.monotonic() - 1).check()
    with pytest.raises(ProtocolError):
        Patience.from_header("0", 0.0)


def test_a_full_queue_is_503_with_a_time_to_come_back_from_what_calls_take(service):
    slow = Plan(took=(0.0, 1.4))
    predictor = Softmax(Gate())

    async def script(application, first, gate):
        waiting = [asyncio.create_task(Caller(application).ask()) for _ in range(2)]
        await until(lambda: service.engine.unfinished == 3)
        refused = Caller(application)
        status = await refused.ask()
        gate.opened.set()
        return (
            status,
            json.loads(refused.body)["error_code"],
            refused.answer_headers[b"retry-after"],
            [await task for task in waiting],
        )

    status, code, retry, others = with_one_in_the_model(
        service, loaded(predictor=predictor, plan=slow, max_queue=2), script
    )
    assert (status, code, retry, others) == (503, "TEMPORARILY_UNAVAILABLE", b"5", [200, 200])


def test_a_client_beyond_its_share_is_429_while_others_are_served(service):
    predictor = Softmax(Gate())

    async def script(application, first, gate):
        own = asyncio.create_task(Caller(application).ask())
        await until(lambda: service.engine.unfinished == 2)
        greedy, other = Caller(application), Caller(application, address="10.0.0.2")
        status = await greedy.ask()
        served = asyncio.create_task(other.ask())
        await until(lambda: service.engine.unfinished == 3)
        gate.opened.set()
        answers = [await own, await served, await Caller(application).ask()]
        return status, json.loads(greedy.body)["error_code"], greedy.answer_headers[b"retry-after"], answers

    release = loaded(predictor=predictor, max_per_client=2)
    status, code, retry, answers = with_one_in_the_model(service, release, script)
    assert (status, code, retry) == (429, "REQUEST_LIMIT_EXCEEDED", b"1")
    assert answers == [200, 200, 200]


def test_a_share_is_free_again_after_an_error():
    shares = Shares()
    for _ in range(3):
        with pytest.raises(KeyError), shares.held("a", 1):
            raise KeyError
    with shares.held("a", 1), shares.held("b", 1):
        with pytest.raises(TooMany), shares.held("a", 1):
            pass
        with shares.held("a", None):
            pass
    assert not shares._held
