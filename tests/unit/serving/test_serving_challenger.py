"""A challenger beside the champion, over HTTP: who answers, what clients are spared, what is compared and kept."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from trimtab.journal.comparisons import Comparisons, read_tallies
from trimtab.journal.outcomes import Tally
from trimtab.journal.reader import end, window
from trimtab.journal.wal import Journal
from trimtab.serving import trying
from trimtab.serving.app import build
from trimtab.serving.challenger import Challengers
from trimtab.serving.keeping import Keeping
from trimtab.serving.limits import Limits
from trimtab.serving.pool import Pool
from trimtab.serving.release import Loaded
from trimtab.serving.routing import alias_for
from trimtab.serving.service import Service
from trimtab.serving.trial import Trial

ONE = {"instances": [[0.0, 1.0, 2.0]]}
SPEC = {
    "inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", 3]}],
    "outputs": [{"name": "probabilities", "dtype": "float32", "shape": ["batch", 3]}],
}
ASKED = {"X-Trimtab-Alias": "challenger"}


class Model:
    """Answers one class; `before` is called first and may block or raise."""

    def __init__(self, decides: int, before: Callable[[], Any] = lambda: None, reentrant: bool = True) -> None:
        self.spec, self.decides, self.before, self.reentrant = SPEC, decides, before, reentrant

    def predict(self, inputs: Any) -> dict[str, Any]:
        self.before()
        answer = np.full((len(inputs["input"]), 3), 0.1, np.float32)
        answer[:, self.decides] = 0.8
        return {"probabilities": answer}


SYNCED = {"keeping": Keeping(acknowledge="synced")}  # what was answered is there to be read at once


def loaded(version: str, model: Model, *, serving: Any = None, **limits: Any) -> Loaded:
    facts = {"candidate": "abc", "target": "onnxruntime-cpu", "precision": "fp32", "classes": 3}
    return Loaded(
        "tiny", version, model, Limits(**{**SYNCED, **limits}), {**facts, "serving": serving or {}}, time.time_ns()
    )


class World:
    """A service with champion 1, which decides 0; a challenger is put beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "reports").mkdir()
        self.service = Service("tiny", folder / "reports", Journal(folder / "journal"))
        self.challengers = self.service.challengers = Challengers(
            folder / "tried",
            Comparisons(folder / "comparisons"),
            lambda: self.service.engine.unfinished > 0,
            self.service.metrics,
            self.service.keeper(),
        )
        self.service.swap(loaded("1", Model(0)))
        self.client = TestClient(build(self.service), raise_server_exceptions=False)

    def put(self, model: Model | None = None, version: str = "2", **serving: Any) -> None:
        self.challengers.put(loaded(version, model or Model(1), serving=serving))

    def ask(self, name: str | None = None, **headers: str) -> httpx.Response:
        return self.client.post(
            "/invocations", json=ONE, headers={**({"X-Request-Id": name} if name else {}), **headers}
        )

    def tally(self, wanted: Callable[[Tally], bool] = lambda tally: tally.requests > 0) -> Tally:
        """The pair's sum, once it is as wanted."""
        deadline = time.monotonic() + 20
        while not wanted(found := self.challengers.comparisons.tally("1", "2")):
            assert time.monotonic() < deadline, found
            time.sleep(0.002)
        return found

    def metric(self, line: str) -> bool:
        """Whether it is there; what another thread counts may come a moment later."""
        deadline = time.monotonic() + 20
        while line not in self.client.get("/metrics").text:
            assert time.monotonic() < deadline, line
            time.sleep(0.002)
        return True


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    with world.client:
        yield world


def who(answer: httpx.Response) -> tuple[int, str, str]:
    return answer.status_code, answer.headers["x-trimtab-version"], answer.headers["x-trimtab-alias"]


def test_by_default_a_challenger_is_loaded_and_nothing_reaches_it(world: World) -> None:
    world.put(Model(1, lambda: pytest.fail("it was called")))
    assert [who(world.ask(f"r{index}")) for index in range(20)] == [(200, "1", "champion")] * 20
    refused = world.ask(**ASKED)
    assert (refused.status_code, refused.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert not (world.folder / "tried").exists()


def test_a_challengers_worker_processes_count_as_the_services(world: World) -> None:
    class Crew(Pool):
        def __init__(self) -> None:
            self.spec = Model(1).spec

        @property
        def pids(self) -> list[int]:
            return [7, 8]

        def tell_deaths(self, tell: Callable[[], None]) -> None:
            """Nobody dies."""

    assert world.service.sampler is not None
    assert world.service.sampler.others() == []
    world.put(Crew())
    assert world.service.sampler.others() == [7, 8]


def test_a_share_of_requests_is_the_challengers_and_sticks_to_their_ids(world: World) -> None:
    world.put(canary={"percent": 30, "header": False})
    names = [f"r{index}" for index in range(60)]
    first = [who(world.ask(name)) for name in names]
    assert first == [who(world.ask(name)) for name in names]
    expected = [alias_for(name, None, Trial(30)) for name in names]
    assert [alias for _, _, alias in first] == expected
    assert {version for _, version, alias in first if alias == "challenger"} == {"2"}
    assert 0 < expected.count("challenger") < 60
    assert world.ask(**ASKED).status_code == 404


def test_the_header_asks_for_either_and_a_wrong_one_is_refused(world: World) -> None:
    assert world.ask(**ASKED).status_code == 404
    world.put(canary={"percent": 0, "header": True})
    assert who(world.ask(**ASKED)) == (200, "2", "challenger")
    assert np.argmax(world.ask(**ASKED).json()["predictions"]["probabilities"][0]) == 1
    assert who(world.ask(**{"X-Trimtab-Alias": "champion"})) == (200, "1", "champion")
    assert world.ask(**{"X-Trimtab-Alias": "previous"}).status_code == 400


def test_what_the_challenger_answers_is_in_a_journal_of_its_own_and_takes_labels(world: World) -> None:
    world.put(canary={"percent": 0, "header": True})
    world.ask("ours")
    world.ask("also-theirs", **ASKED)
    world.ask("theirs", **ASKED)
    assert window(world.folder / "journal", 0, 1).request_id.tolist() == ["ours"]
    found = window(world.folder / "tried", 0, 2)
    assert (found.request_id.tolist(), found.version.tolist()) == (["also-theirs", "theirs"], ["2", "2"])
    entries = [{"request_id": name, "label": 2} for name in ("theirs", "nobody", "ours")]
    assert world.client.post("/labels", json=entries).json() == {"accepted": 3, "known": 2, "unknown": 1}
    assert window(world.folder / "journal", 0, 1).label.tolist() == [2]
    assert window(world.folder / "tried", 0, 2).label.tolist() == [-1, 2]
    assert world.metric("trimtab_journal_rows 1.0")


def test_what_a_canary_answered_counts_as_evidence(world: World) -> None:
    world.put(canary={"percent": 100})
    world.ask()
    found = world.tally()
    assert (found.canaried, found.shadowed, found.failed) == (1, 0, 0)
    assert world.metric('trimtab_answers_total{alias="challenger"} 1.0')


def raising() -> None:
    raise RuntimeError("secret")


def test_a_client_whose_request_was_its_share_does_not_pay_for_a_bad_challenger(world: World) -> None:
    world.put(Model(1, raising), canary={"percent": 100})
    answer = world.ask("r")
    assert who(answer) == (200, "1", "champion")
    assert np.argmax(answer.json()["predictions"]["probabilities"][0]) == 0
    found = world.tally()
    assert (found.canaried, found.failed, found.errors) == (1, 1, {"RuntimeError": 1})
    assert world.metric('trimtab_canary_rescued_total{reason="failed"} 1.0')
    assert window(world.folder / "journal", 0, 1).status.tolist() == [200]
    assert end(world.folder / "tried") == 0


def test_who_asks_for_the_challenger_by_name_is_told_that_it_failed(world: World) -> None:
    world.put(Model(1, raising), canary={"percent": 0, "header": True})
    answer = world.ask(**ASKED)
    assert who(answer) == (500, "2", "challenger")
    assert "secret" not in answer.text
    assert window(world.folder / "tried", 0, 1).errors == {"RuntimeError": 1}
    assert world.tally().errors == {"RuntimeError": 1}


def test_a_request_that_neither_can_read_is_the_clients_fault(world: World) -> None:
    world.put(canary={"percent": 100})
    answer = world.client.post("/invocations", json={"instances": [["text", 1, 2]]})
    assert who(answer) == (400, "1", "champion")
    world.ask()
    assert world.tally().failed == 0


def test_a_challenger_that_hangs_is_passed_by_and_the_champion_answers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    monkeypatch.setattr(trying, "RESCUE_S", 0.05)
    world.put(Model(1, lambda: go.wait(20)), canary={"percent": 100})
    try:
        assert who(world.ask()) == (200, "1", "champion")
        assert world.tally().errors == {"TimeoutError": 1}
        world.challengers.engine._began[0] = time.monotonic() - 100  # hangs for longer than a probe tolerates
        assert who(world.ask()) == (200, "1", "champion")
        assert world.metric('trimtab_canary_rescued_total{reason="busy"} 1.0')
        assert world.client.get("/ready").status_code == world.client.get("/ping").status_code == 200
    finally:
        go.set()


def test_a_challenger_whose_queue_is_full_is_passed_by(world: World) -> None:
    go, started = threading.Event(), threading.Event()

    def before() -> None:
        started.set()
        assert go.wait(20)

    world.challengers.put(loaded("2", Model(1, before), serving={"canary": {"percent": 100}}, max_queue=1))

    async def play() -> tuple[httpx.Response, list[httpx.Response]]:
        transport = httpx.ASGITransport(build(world.service))
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            first = [asyncio.create_task(client.post("/invocations", json=ONE)) for _ in range(2)]
            while world.challengers.engine.unfinished < 2:
                await asyncio.sleep(0.002)
            passed_by = await client.post("/invocations", json=ONE)
            go.set()
            return passed_by, list(await asyncio.gather(*first))

    passed_by, first = asyncio.run(play())
    assert who(passed_by) == (200, "1", "champion")
    assert [who(answer) for answer in first] == [(200, "2", "challenger")] * 2


def test_copies_are_compared_after_the_answer_and_do_not_touch_it(world: World) -> None:
    world.put(Model(1), shadow={"percent": 100})
    answers = [world.ask(f"r{index}") for index in range(5)]
    assert {who(answer) for answer in answers} == {(200, "1", "champion")}
    found = world.tally(lambda tally: tally.shadowed == 5)
    world.put(Model(0), version="3", shadow={"percent": 100})
    world.ask("same")
    assert (found.rows, found.agreed, found.failed) == (5, 0, 0)
    assert found.difference == pytest.approx(0.7, abs=1e-6)
    assert found.latency_ratio is not None
    deadline = time.monotonic() + 20
    while read_tallies(world.folder / "comparisons").get(("1", "3"), Tally("1", "3")).agreed != 1:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    assert end(world.folder / "journal") == 6


def test_a_failing_shadow_is_counted_and_nobody_hears_of_it(world: World) -> None:
    world.put(Model(1, raising), shadow={"percent": 100})
    assert who(world.ask()) == (200, "1", "champion")
    assert world.tally().errors == {"RuntimeError": 1}
    assert world.metric('trimtab_shadow_total{outcome="failed"} 1.0')


def test_copies_beyond_the_queue_are_dropped_and_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab.serving.shadow.MOST_COPIES", 1)
    go, started = threading.Event(), threading.Event()

    def before() -> None:
        started.set()
        assert go.wait(20)

    world.put(Model(1, before), shadow={"percent": 100})
    world.ask()
    assert started.wait(20)
    assert [who(world.ask())[0] for _ in range(3)] == [200] * 3
    assert world.metric('trimtab_shadow_total{outcome="dropped"} 2.0')
    go.set()
    assert world.tally(lambda tally: tally.shadowed == 2).failed == 0


def test_what_a_pair_showed_and_what_is_missing_is_told(world: World) -> None:
    said = world.client.get("/comparison").json()
    assert said == {"name": "tiny", "champion": "1", "challenger": None, "promotion": None, "pairs": []}
    rule = {"min_requests": 2, "min_agreement": 0.5, "max_latency_ratio": None, "max_error_rate": 0.0}
    world.put(Model(1), shadow={"percent": 100}, promotion=rule)
    world.ask()
    world.tally()
    said = world.client.get("/comparison").json()
    assert (said["challenger"]["version"], said["challenger"]["shadow_percent"]) == ("2", 100)
    assert said["promotion"]["rule"] == rule
    assert said["promotion"]["missing"] == [
        "1 shadow requests, 2 are needed",
        "decided 0.0% of 1 rows as the champion did, 50.0% are needed",
    ]
    (pair,) = said["pairs"]
    assert (pair["requests"], pair["agreement"], pair["error_rate"]) == (1, 0.0, 0.0)
    assert "log_ratio" not in pair
    assert world.client.get("/version").json()["challenger"]["version"] == "2"
    assert world.metric('trimtab_challenger_agreement{challenger="2",champion="1"} 0.0')


def test_a_challenger_that_became_champion_is_none_any_more(world: World) -> None:
    world.put(Model(1), canary={"percent": 100}, shadow={"percent": 100})
    world.service.swap(loaded("2", Model(1)))
    assert who(world.ask()) == (200, "2", "champion")
    assert world.client.get("/version").json()["challenger"] is None
    assert world.ask(**ASKED).status_code == 404
    assert world.challengers.comparisons.tallies() == []


def test_a_challenger_is_taken_away(world: World) -> None:
    world.put(Model(1), canary={"percent": 100})
    assert who(world.ask()) == (200, "2", "challenger")
    world.challengers.clear()
    assert who(world.ask()) == (200, "1", "champion")
    assert "trimtab_challenger_info{" not in world.client.get("/metrics").text


def test_a_trial_that_cannot_be_read_is_refused_before_anything_reaches_it(world: World) -> None:
    with pytest.raises(Exception, match=r"release\.json: serving"):
        world.put(canary={"percent": 200})
    assert world.challengers.current is None


def test_a_runtime_that_takes_one_call_at_a_time_gets_one_at_a_time(world: World) -> None:
    entered, go = [], threading.Event()

    def before() -> None:
        entered.append(threading.get_ident())
        assert go.wait(20)

    world.put(Model(1, before, reentrant=False))
    seat = world.challengers.current
    assert seat is not None
    predict, inputs = seat.loaded.predictor.predict, {"input": np.zeros((1, 3), np.float32)}
    callers = [threading.Thread(target=predict, args=(inputs,)) for _ in range(2)]
    for caller in callers:
        caller.start()
    callers[1].join(0.1)
    assert len(entered) == 1
    go.set()
    for caller in callers:
        caller.join(20)
    assert len(entered) == 2
