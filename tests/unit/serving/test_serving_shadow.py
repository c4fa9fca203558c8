"""Copies on a challenger: compared as decisions are, behind the answers, bounded, and nothing it does gets out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from trimtab.journal.outcomes import Outcome
from trimtab.serving import shadow as module
from trimtab.serving.compare import Copy, agreeing, compare
from trimtab.serving.limits import Limits
from trimtab.serving.release import Loaded
from trimtab.serving.shadow import Shadow

PROBABILITIES = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)


class Fixed:
    """Answers what it was given, whatever it is asked; `before` is called first and may block or raise."""

    def __init__(self, answer: Any, before: Callable[[], Any] = lambda: None, reentrant: bool = True) -> None:
        self.answer, self.before, self.reentrant, self.calls = answer, before, reentrant, 0
        self.spec: dict[str, Any] = {}

    def predict(self, inputs: Any) -> dict[str, Any]:
        self.calls += 1
        self.before()
        return {"probabilities": self.answer, "prediction": self.answer}


def loaded(version: str, predictor: Fixed, **facts: Any) -> Loaded:
    return Loaded("tiny", version, predictor, Limits(), {"classes": 2, **facts}, 0)


def copy(champion: Fixed | None = None, output: Any = PROBABILITIES, name: str = "r", **facts: Any) -> Copy:
    release = loaded("1", champion or Fixed(output), **facts)
    return Copy(name, release, {"input": np.zeros((len(output), 3), np.float32)}, output, predict_s=0.25)


def test_decisions_differences_and_times_are_compared() -> None:
    other = np.array([[0.6, 0.4], [0.7, 0.3]], np.float32)
    found = compare(copy(), loaded("2", Fixed(other)), 0.1)
    assert (found.kind, found.pair, found.rows, found.agreed, found.error) == ("shadow", ("1", "2"), 2, 1, None)
    assert found.difference == pytest.approx(0.5, abs=1e-6)
    assert found.ratio is not None
    assert found.ratio > 0


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (np.full((2, 2), np.nan, np.float32), "NotFinite"),
        (np.zeros((3, 2), np.float32), "WrongShape"),
        (np.zeros(2, np.float32), "WrongShape"),
        ("text", "AttributeError"),
    ],
)
def test_an_answer_that_cannot_be_compared_is_an_error_by_its_kind(answer: Any, error: str) -> None:
    found = compare(copy(), loaded("2", Fixed(answer)), 0.1)
    assert (found.error, found.agreed, found.difference, found.ratio) == (error, 0, None, None)


def test_a_model_that_raises_is_an_error_by_its_type() -> None:
    def fails() -> None:
        raise MemoryError("secret")

    assert compare(copy(), loaded("2", Fixed(None, fails)), 0.1).error == "MemoryError"


def test_another_number_of_classes_is_compared_by_decision_alone() -> None:
    three = np.array([[0.9, 0.1, 0.0], [0.0, 0.1, 0.9]], np.float32)
    found = compare(copy(), loaded("2", Fixed(three)), 0.1)
    assert (found.agreed, found.difference, found.error) == (1, None, None)


def test_a_champion_that_takes_one_call_at_a_time_is_not_called_again() -> None:
    once, often = Fixed(PROBABILITIES, reentrant=False), Fixed(PROBABILITIES)
    challenger = loaded("2", Fixed(PROBABILITIES))
    for champion in (once, often):
        for name in ("a", "b", "c", "d", "e", "f"):  # either order
            assert compare(copy(champion, name=name), challenger, 0.1).error is None
    assert (once.calls, often.calls) == (0, 6)


def test_numbers_agree_within_a_share_of_the_larger_one() -> None:
    champion = np.array([[100.0, 1.0], [100.0, 1.0], [0.0, 0.0], [100.0, 0.0], [-1.0, 1.0]])
    challenger = np.array([[110.0, 1.1], [112.0, 1.0], [0.0, 0.0], [100.0, 1e-9], [1.0, 1.0]])
    assert agreeing(champion, challenger, 0.1) == 2
    assert agreeing(champion, challenger[:, :1], 0.1) == 0
    found = compare(copy(output=champion.astype(np.float32)), loaded("2", Fixed(challenger), task="regression"), 0.1)
    assert (found.agreed, found.rows) == (2, 5)


class World:
    """A shadow whose challenger waits for `go`, and whose outcomes are kept in memory."""

    def __init__(self, answer: Any = PROBABILITIES, busy: Callable[[], bool] = lambda: False) -> None:
        self.outcomes: list[Outcome] = []
        self.go, self.started = threading.Event(), threading.Event()
        self.challenger = loaded("2", Fixed(answer, self.wait))
        self.shadow = Shadow(self.challenger, 0.1, busy, self.outcomes.append)

    def wait(self) -> None:
        self.started.set()
        assert self.go.wait(20)

    def until(self, count: int) -> None:
        deadline = time.monotonic() + 20
        while len(self.outcomes) < count:
            assert time.monotonic() < deadline
            time.sleep(0.002)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.go.set()
    world.shadow.stop(5)


CANARY = Outcome("canary", "1", "2", "c", 1, rows=1)


def test_an_offer_never_waits_and_is_refused_when_the_queue_is_full(world: World) -> None:
    world.shadow.offer(copy())
    assert world.started.wait(20)
    taken = [world.shadow.offer(copy()) for _ in range(module.MOST_COPIES + 3)]
    assert taken == [True] * module.MOST_COPIES + [False] * 3
    world.go.set()
    world.until(module.MOST_COPIES + 1)
    assert world.shadow.offer(copy())


def test_the_queue_is_bounded_in_bytes_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 3 * copy().size)
    world.shadow.offer(copy())
    assert world.started.wait(20)
    assert [world.shadow.offer(copy()) for _ in range(5)] == [True, True, True, False, False]
    world.go.set()
    world.until(4)
    large = np.tile(PROBABILITIES, (1000, 1))
    assert world.shadow.offer(copy(output=large))  # one larger than the whole queue is still compared, alone


def test_canaries_are_written_down_in_their_turn_and_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OUTCOMES", 2)
    world.shadow.offer(copy())
    assert world.started.wait(20)
    assert [world.shadow.note(CANARY) for _ in range(3)] == [True, True, False]
    world.go.set()
    world.until(3)
    assert [one.kind for one in world.outcomes] == ["shadow", "canary", "canary"]


def test_answers_go_first_and_a_service_that_is_never_idle_is_still_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 60.0)
    idle = threading.Event()
    world = World(busy=lambda: not idle.is_set())
    world.go.set()
    world.shadow.offer(copy())
    time.sleep(0.05)
    assert not world.started.is_set()
    idle.set()
    world.until(1)
    idle.clear()
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    world.shadow.offer(copy())
    world.until(2)
    world.shadow.stop(5)


def test_the_thread_outlives_a_record_that_fails(world: World) -> None:
    world.go.set()
    failed = threading.Event()

    def fails(outcome: Outcome) -> None:
        failed.set()
        raise OSError("disk full")

    world.shadow._record = fails
    world.shadow.offer(copy())
    assert failed.wait(20)
    world.shadow._record = world.outcomes.append
    world.shadow.offer(copy())
    world.until(1)


def test_once_stopped_nothing_is_compared_and_what_is_known_is_written_down(world: World) -> None:
    world.shadow.offer(copy())
    assert world.started.wait(20)
    world.shadow.offer(copy())
    world.shadow.note(CANARY)
    world.shadow.stop()
    world.go.set()
    world.shadow.stop(20)
    assert [one.kind for one in world.outcomes] == ["shadow", "canary"]
    assert not world.shadow.offer(copy())
    assert not world.shadow.note(CANARY)
