"""Ready, alive, and the end: what a probe hears, and what happens to requests once the service shuts down."""

from __future__ import annotations

import asyncio
import ctypes
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from trimtab.journal.reader import window
from trimtab.journal.wal import Journal
from trimtab.serving import health
from trimtab.serving.app import build
from trimtab.serving.drain import CLOSING_S, Drain
from trimtab.serving.health import Progress
from trimtab.serving.limits import Limits
from trimtab.serving.release import Loaded
from trimtab.serving.service import Service

ONE = {"instances": [[0.0, 1.0]]}
SPEC = {
    "inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", 2]}],
    "outputs": [{"name": "probabilities", "dtype": "float32", "shape": ["batch", 2]}],
}


class Model:
    """Answers evenly, once `go` is set."""

    spec, reentrant = SPEC, True

    def __init__(self) -> None:
        self.go, self.started = threading.Event(), threading.Event()
        self.go.set()

    def predict(self, inputs):
        self.started.set()
        assert self.go.wait(20)
        return {"probabilities": np.full((len(inputs["input"]), 2), 0.5, np.float32)}


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def service(tmp_path: Path, model: Model) -> Service:
    (tmp_path / "reports").mkdir()
    service = Service("tiny", tmp_path / "reports", Journal(tmp_path / "journal"))
    service.swap(Loaded("tiny", "1", model, Limits(drain_s=7.0), {"classes": 2}, 0))
    return service


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(build(service), raise_server_exceptions=False) as client:
        yield client


def probes(client: TestClient) -> tuple[int, int]:
    return client.get("/ready").status_code, client.get("/ping").status_code


class Clock:
    """Seconds, told by the test."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_engine_is_stuck_while_requests_wait_and_none_is_finished() -> None:
    clock, engine = Clock(), SimpleNamespace(unfinished=0, finished=0, longest_s=0.0)
    progress = Progress(lambda: engine, clock)

    def after(seconds: float, unfinished: int, finished: int) -> float:
        clock.now += seconds
        engine.unfinished, engine.finished = unfinished, finished
        return progress.stuck_s()

    assert after(1000, 0, 0) == 0  # nothing to do is no trouble
    assert after(10, 3, 5) == 0
    assert after(10, 3, 5) == 10
    assert after(25, 9, 5) == 35
    assert after(10, 9, 6) == 0  # one was finished
    assert after(40, 8, 6) == 40
    assert after(1, 0, 6) == 0


def test_a_call_that_runs_too_long_is_stuck_however_seldom_one_asks() -> None:
    engine = SimpleNamespace(unfinished=1, finished=0, longest_s=77.0)
    assert Progress(lambda: engine, Clock()).stuck_s() == 77.0


def test_a_model_that_hangs_is_first_not_ready_and_later_not_alive(service: Service, client: TestClient) -> None:
    assert probes(client) == (200, 200)
    for seconds, expected in ((health.HANGING_S + 5, (503, 200)), (health.DEAD_S + 5, (503, 503))):
        service.engine._began[0] = time.monotonic() - seconds
        assert probes(client) == expected
        assert "for over" in client.get("/ready").json()["reason"]
    service.engine._began.clear()
    assert probes(client) == (200, 200)
    assert client.get("/ping").text == "\n"  # as the stock server


def test_requests_that_wait_for_a_thread_that_takes_none_are_noticed(service: Service, client: TestClient) -> None:
    clock = Clock()
    service.progress = Progress(lambda: service.engine, clock)
    service.engine.unfinished = 2
    assert probes(client) == (200, 200)
    clock.now += health.HANGING_S + 1
    assert probes(client) == (503, 200)
    clock.now += health.DEAD_S
    assert probes(client) == (503, 503)
    service.engine.unfinished = 0


def test_a_model_thread_that_has_ended_is_not_alive(service: Service, client: TestClient) -> None:
    assert client.post("/invocations", json=ONE).status_code == 200
    (workers,) = service.engine._workers.values()
    (thread,) = workers._threads
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
    with workers._changed:
        workers._changed.notify_all()  # wakes it, so that the exception reaches it
    thread.join(20)
    assert probes(client) == (503, 503)
    assert "has ended" in client.get("/ping").json()["reason"]


def test_the_time_of_a_drain_is_the_releases_and_some_of_it_is_kept_for_closing(service: Service) -> None:
    assert service.drain_s == 7.0
    clock = Clock()
    drain = Drain(clock)
    assert not drain.begun
    assert not drain.over
    drain.under_way = 1
    assert drain.begin(service.drain_s)
    assert not drain.begin(1000.0)  # a second signal gives no more time
    assert drain.begun
    assert not drain.over
    clock.now += 7.0 - CLOSING_S - 0.01
    assert not drain.over
    clock.now += 0.02
    assert drain.over
    service.close()


def test_what_is_under_way_is_answered_and_what_comes_is_refused(
    service: Service, model: Model, tmp_path: Path
) -> None:
    model.go.clear()

    async def play():
        transport = httpx.ASGITransport(build(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            first = asyncio.create_task(client.post("/invocations", json=ONE, headers={"X-Request-Id": "first"}))
            while not model.started.is_set():
                await asyncio.sleep(0.002)
            service.drain.begin(service.drain_s)
            refused = [await client.post(path, json=ONE) for path in ("/invocations", "/labels")]
            seen = [(await client.get(path)).status_code for path in ("/ready", "/ping", "/version", "/metrics")]
            over = [service.drain.over]
            model.go.set()
            answered = await first
            return refused, seen, [*over, service.drain.over], answered

    refused, seen, over, answered = asyncio.run(play())
    service.close()
    for answer in refused:
        assert (answer.status_code, answer.headers["retry-after"], answer.headers["connection"]) == (503, "1", "close")
        assert answer.json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
    assert seen == [503, 200, 200, 200]
    assert over == [False, True]
    assert answered.status_code == 200
    assert window(tmp_path / "journal", 0, 1).request_id.tolist() == ["first"]


def test_a_model_that_hangs_does_not_keep_the_journal_from_being_closed(service: Service, model: Model) -> None:
    model.go.clear()

    async def play() -> None:
        release = service.engine.current
        assert release is not None
        asked = asyncio.create_task(
            service.engine.submit(release, lambda: {"input": np.zeros((1, 2), np.float32)}, lambda outputs: b"")
        )
        while not model.started.is_set():
            await asyncio.sleep(0.002)
        asked.cancel()

    asyncio.run(play())
    service.close()
    assert not service.closed_whole
    assert service.journal is not None
    with pytest.raises(Exception, match="is closed"):
        service.journal.append([])
    model.go.set()
