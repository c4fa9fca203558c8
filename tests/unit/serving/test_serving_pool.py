"""A predictor of several processes, played by objects: what is asked of whom, what a death costs, and the way back."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
from engine_world import Softmax, loaded, play, until

from trimtab.runtime.child import NotAsked, WorkerDied, WorkerFailed
from trimtab.serving import health, pool
from trimtab.serving.health import DEAD_S
from trimtab.serving.plan import Plan
from trimtab.serving.pool import Pool
from trimtab.serving.service import Service

ROWS = {"input": np.zeros((2, 3), np.float32)}
ONE = {"instances": [[0.0, 1.0, 2.0]]}


class Acted(Softmax):
    """A process that is none. `kill` ends it; a call under way fails then.

    Attributes:
        go: calls wait for it.
    """

    made: ClassVar[list[Acted]] = []

    def __init__(self, load: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._load, self.usable, self.pid = load, True, 4_000_000 + len(self.made)
        self.ended, self.go, self.asked = threading.Event(), threading.Event(), threading.Event()
        self.go.set()
        self.made.append(self)

    def load(self) -> None:
        self._load()

    def predict(self, inputs: Any) -> dict[str, np.ndarray]:
        if self.ended.is_set():
            self.usable = False
            raise NotAsked("it had ended")
        self.asked.set()
        while not self.go.wait(0.002):
            if self.ended.is_set():
                self.usable = False
                raise WorkerDied("it ended")
        return super().predict(inputs)

    def kill(self) -> None:
        self.ended.set()

    def wait(self) -> str:
        self.ended.wait()
        return "signal SIGKILL"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(Acted, "made", [])
    monkeypatch.setattr(pool, "FIRST_RETRY_S", 0.001)
    monkeypatch.setattr(pool, "LAST_RETRY_S", 0.01)


def waited(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def proven(process: Any) -> None:
    process.predict(ROWS)


def test_calls_at_once_go_to_different_processes_and_all_are_proven_first():
    crew = Pool(Acted, 2, proven)
    assert [process.calls for process in Acted.made] == [[2], [2]]
    for process in Acted.made:
        process.go.clear()
        process.asked.clear()
    callers = [threading.Thread(target=crew.predict, args=(ROWS,)) for _ in range(2)]
    for caller in callers:
        caller.start()
    waited(lambda: all(process.asked.is_set() for process in Acted.made))
    for process in Acted.made:
        process.go.set()
    for caller in callers:
        caller.join()
    crew.close()


def test_all_or_none_one_that_cannot_be_loaded_ends_the_others():
    def second_fails() -> None:
        if len(Acted.made) > 1:
            raise WorkerFailed("RuntimeError", "no graph", "pid 2")

    with pytest.raises(WorkerFailed, match="no graph"):
        Pool(lambda: Acted(second_fails), 2, proven)
    waited(lambda: all(process.ended.is_set() for process in Acted.made))


def test_one_that_crashes_while_it_loads_is_told_with_how_it_ended():
    def crash() -> None:
        raise WorkerDied("ended before it answered")

    with pytest.raises(WorkerDied, match=r"loaded or proven \(signal SIGKILL\)"):
        Pool(lambda: Acted(crash), 2, proven)


def test_one_that_answers_wrong_is_refused_with_all():
    def wrong(process: Any) -> None:
        if process is not Acted.made[0]:
            raise ValueError("golden rows: answers differ")

    with pytest.raises(ValueError, match="golden rows"):
        Pool(Acted, 3, wrong)
    waited(lambda: all(process.ended.is_set() for process in Acted.made))


def test_a_death_fails_the_call_in_it_and_a_proven_one_comes_back():
    deaths: list[int] = []
    crew = Pool(Acted, 1, proven)
    crew.tell_deaths(lambda: deaths.append(1))
    first = Acted.made[0]
    first.go.clear()
    first.asked.clear()
    threading.Thread(target=lambda: (first.asked.wait(), first.kill())).start()
    with pytest.raises(WorkerDied):
        crew.predict(ROWS)
    assert crew.predict(ROWS)["probabilities"].shape == (2, 3)
    assert Acted.made[1].calls == [2, 2]  # proven, then asked
    assert deaths == [1]
    assert crew.pids == [Acted.made[1].pid]
    crew.close()


def test_one_that_died_while_nobody_asked_it_fails_nobody():
    crew = Pool(Acted, 2, proven)
    Acted.made[0].kill()
    for _ in range(4):
        crew.predict(ROWS)
    waited(lambda: len(crew.pids) == 2)
    crew.close()


def test_a_model_that_raises_costs_no_process():
    def fail(inputs: Any) -> None:
        if np.isnan(inputs["input"]).any():
            raise WorkerFailed("FloatingPointError", "nan", "pid 1")

    crew = Pool(Acted, 1, lambda process: None)
    Acted.made[0].before = fail
    with pytest.raises(WorkerFailed):
        crew.predict({"input": np.full((1, 3), np.nan, np.float32)})
    assert crew.predict(ROWS)["probabilities"].shape == (2, 3)
    assert len(Acted.made) == 1
    crew.close()


def test_with_none_alive_a_call_waits_a_bounded_time(monkeypatch):
    monkeypatch.setattr(pool, "WAIT_S", 0.05)
    crew = Pool(Acted, 1, proven)
    crew._slots._prove = lambda process: 1 / 0
    Acted.made[0].kill()
    waited(lambda: crew.bereft_s > 0)
    with pytest.raises(WorkerDied, match="no worker process is alive"):
        crew.predict(ROWS)
    crew._slots._prove = proven
    waited(lambda: crew.bereft_s == 0)
    assert crew.predict(ROWS)
    crew.close()


def test_waits_between_starts_grow(monkeypatch):
    monkeypatch.setattr(pool, "LAST_RETRY_S", 30.0)
    monkeypatch.setattr(pool, "FIRST_RETRY_S", 0.02)
    crew = Pool(Acted, 1, proven)
    crew._slots._prove = lambda process: 1 / 0
    began = time.monotonic()
    Acted.made[0].kill()
    waited(lambda: len(Acted.made) == 5)
    assert time.monotonic() - began >= 0.04 + 0.08 + 0.16 + 0.32
    crew.close()


def test_the_processes_end_with_the_last_who_holds_the_predictor():
    crew = Pool(Acted, 2, proven)
    process = Acted.made[0]
    del crew
    gc.collect()
    assert process.ended.is_set()
    time.sleep(0.05)
    assert len(Acted.made) == 2  # and none is started again


@pytest.fixture
def service(tmp_path) -> Service:
    return Service("tiny", tmp_path, None)


def of_processes(version: str = "1", count: int = 1, **more: Any) -> Any:
    return loaded(version, Pool(Acted, count, proven), Plan(workers=count, processes=count), **more)


def test_a_dead_process_is_the_models_failure_and_requests_after_it_are_answered(service):
    service.swap(of_processes())
    process = Acted.made[0]
    process.go.clear()
    process.asked.clear()

    async def script(client):
        first = asyncio.create_task(client.post("/invocations", json=ONE))
        await until(process.asked.is_set)
        second = asyncio.create_task(client.post("/invocations", json=ONE))
        await until(lambda: service.engine.unfinished == 2)
        process.kill()
        return await first, await second, (await client.get("/metrics")).text

    first, second, metrics = play(service, script)
    assert (first.status_code, second.status_code) == (500, 200)
    assert 'trimtab_model_errors_total{kind="WorkerDied"} 1.0' in metrics
    assert 'trimtab_process_deaths_total{alias="champion"} 1.0' in metrics


def test_while_none_is_alive_new_requests_are_refused_and_probes_say_so(service, monkeypatch):
    service.swap(of_processes())
    crew = service.engine.current.pool
    crew._slots._prove = lambda process: 1 / 0
    Acted.made[0].kill()
    waited(lambda: crew.bereft_s > 0)

    async def script(client):
        asked = [await client.post("/invocations", json=ONE), await client.get("/ready"), await client.get("/ping")]
        monkeypatch.setattr(health, "DEAD_S", 0.0)
        asked.append(await client.get("/ping"))
        crew._slots._prove = proven
        await until(lambda: crew.bereft_s == 0)
        return [
            *asked,
            await client.get("/ready"),
            await client.get("/ping"),
            await client.post("/invocations", json=ONE),
        ]

    answers = play(service, script)
    assert [answer.status_code for answer in answers] == [503, 503, 200, 503, 200, 200, 200]
    assert answers[0].headers["retry-after"] == "1"
    assert "no worker process is alive" in answers[1].json()["reason"]
    assert DEAD_S > 30


def test_a_swap_ends_the_old_processes_after_their_last_request(service):
    service.swap(of_processes("1"))
    old = Acted.made[0]
    old.go.clear()
    old.asked.clear()

    async def script(client):
        first = asyncio.create_task(client.post("/invocations", json=ONE))
        await until(old.asked.is_set)
        service.swap(of_processes("2"))
        second = await client.post("/invocations", json=ONE)
        assert not old.ended.is_set()
        old.go.set()
        first = await first
        await until(old.ended.is_set)
        return first, second

    first, second = play(service, script)
    assert [first.headers["x-trimtab-version"], second.headers["x-trimtab-version"]] == ["1", "2"]
    assert first.status_code == second.status_code == 200


def test_requests_that_shared_a_call_that_died_get_calls_of_their_own(service):
    shares = Plan(shares=True, took=(0.0, *[1.0 + 0.01 * n for n in range(1, 65)]), max_wait_s=100.0, processes=1)
    service.swap(loaded("1", Pool(Acted, 1, proven), shares))
    process = Acted.made[0]
    process.go.clear()
    process.asked.clear()

    async def script(client):
        first = asyncio.create_task(client.post("/invocations", json=ONE))
        await until(process.asked.is_set)
        others = [asyncio.create_task(client.post("/invocations", json=ONE)) for _ in range(3)]
        await until(lambda: service.engine.unfinished == 4)
        process.asked.clear()
        process.before = lambda inputs: process.go.clear() if len(inputs["input"]) == 1 else None
        process.go.set()
        await first
        await until(lambda: process.asked.is_set() and service.engine.unfinished == 3)
        process.kill()
        return [await other for other in others]

    assert [answer.status_code for answer in play(service, script)] == [200, 200, 200]


def test_the_plan_and_the_metrics_tell_of_them(service):
    service.swap(of_processes(count=2))
    assert service.engine.current.plan.facts()["processes"] == 2
    assert service.metrics.registry.get_sample_value("trimtab_processes") == 2
    service.close()
