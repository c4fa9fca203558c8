"""The loop of halving: who is trained when and for how long, what drops are counted from, decided once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from trimtab.candidate import Step
from trimtab.compress.search.course import CONTROL, Lap, Limit, Terms, Way, run_course
from trimtab.compress.search.halving import Runner
from trimtab.errors import UnsupportedError

TERMS = Terms(epochs=7, drops=[0.02], accuracy=0.9, control=False)


class Club:
    """Trains by arithmetic: a shape loses 8 points, a third of that after 3 epochs, and so on; the control nothing."""

    def __init__(self, cannot: tuple[str, ...] = (), seconds: float = 1.0) -> None:
        self.laps: list[tuple[str, int]] = []
        self.cannot, self.seconds = cannot, seconds

    def train(self, way: Way, epochs: int) -> Lap | None:
        self.laps.append((way.runner.key, epochs))
        if way.runner.key in self.cannot:
            return None
        total = sum(way.runner.epochs) + epochs
        accuracy = 0.95 if way.runner.key == CONTROL else 0.9 - 0.08 / total
        return Lap((*way.steps, Step("distil", {"epochs": epochs})), accuracy, self.seconds)


def ways(count: int) -> list[Way]:
    return [Way(Runner(f"s{i}", 0.3 + 0.1 * i, (), ()), (Step("shorten", {"drop": [i]}),)) for i in range(count)]


def test_half_the_shapes_go_on_for_twice_the_epochs_from_where_they_were() -> None:
    club = Club()

    ended = run_course(ways(4), TERMS, club.train)

    assert sorted(club.laps[:4]) == [(f"s{i}", 1) for i in range(4)]
    assert club.laps[4:] == [("s0", 2), ("s1", 2), ("s0", 4)]
    assert [(way.runner.key, way.runner.epochs) for way in ended] == [
        *(("s0", (1, 2, 4)), ("s2", (1,))),
        *(("s3", (1,)), ("s1", (1, 2))),
    ]
    assert [step.parameters.get("epochs") for step in ended[0].steps] == [None, 1, 2, 4]
    assert ended[0].runner.drops == pytest.approx((0.08, 0.08 / 3, 0.08 / 7))


def test_with_a_control_drops_are_counted_from_it_and_it_runs_every_rung() -> None:
    club = Club()

    ended = run_course(ways(2), Terms(3, [0.02], 0.9, control=True), club.train)

    assert club.laps == [(CONTROL, 1), ("s1", 1), ("s0", 1), (CONTROL, 2), ("s0", 2)]
    assert ended[-1].runner.key == CONTROL
    assert ended[-1].runner.drops == (0.0, 0.0)
    assert ended[0].runner.drops[0] == pytest.approx(0.95 - 0.82)


def test_drops_are_counted_as_the_terms_say() -> None:
    relative = Terms(3, [0.02], -0.5, control=False, drop=lambda before, after: after / before - 1)

    ended = run_course(ways(1), relative, lambda way, epochs: Lap(way.steps, -0.6, 1.0))

    assert ended[0].runner.drops == pytest.approx((0.2,) * len(ended[0].runner.epochs))


class Front(Club):
    """The slower a shape is, the less it loses: nothing that lasts from a latency of 0.75 on, ten points at 0.25."""

    def train(self, way: Way, epochs: int) -> Lap | None:
        lap = super().train(way, epochs)
        return lap and Lap(lap.steps, 0.9 - max(0.0, 0.75 - way.runner.latency) / 5, 1.0)


def test_of_many_that_are_offered_those_are_trained_that_lie_where_the_drops_end() -> None:
    offered = [Way(Runner(f"s{i:02}", 0.20 + 0.04 * i, (), ()), ()) for i in range(16)]
    club = Front(cannot=("s10",))

    ended = run_course(offered, Terms(1, [0.005, 0.04], 0.9, control=False, shapes=6), club.train)

    # Half a point ends between s13 and s14 at 0.725, four points between s08 and s09 at 0.55.
    names = [key for key, _ in club.laps]
    assert names[0] == "s08"  # the middle of all
    assert {"s08", "s09", "s13", "s14"} <= set(names)
    assert len(ended) == 6  # one more was tried where one cannot be trained
    assert len(names) == len(set(names)) == 6 + ("s10" in names)
    assert "s00" not in names


def test_a_shape_that_cannot_be_trained_takes_no_place() -> None:
    club = Club(cannot=("s0", "s1"))
    ended = run_course(ways(4), Terms(1, [0.02], 0.9, control=False, shapes=2), club.train)
    assert {way.runner.key for way in ended} == {"s2", "s3"}


def test_a_shape_that_cannot_be_trained_leaves_and_a_control_that_cannot_is_refused() -> None:
    ended = run_course(ways(3), TERMS, Club(cannot=("s0",)).train)
    assert {way.runner.key for way in ended} == {"s1", "s2"}
    with pytest.raises(UnsupportedError, match="no control to count drops from"):
        run_course(ways(3), Terms(3, [0.02], 0.9, control=True), Club(cannot=(CONTROL,)).train)


def test_what_was_trained_is_told_as_it_is_after_it() -> None:
    told: list[tuple[str, int, float]] = []
    left: list[int] = []

    run_course(
        ways(2),
        TERMS,
        Club().train,
        None,
        lambda way, accuracy: told.append((way.runner.key, sum(way.runner.epochs), accuracy)),
        lambda ways: left.append(len(ways)),
    )

    assert [one[:2] for one in told] == [("s1", 2), ("s0", 2), ("s0", 7)]
    assert told[0][2] == pytest.approx(0.9 - 0.04)
    assert left == [2, 1]


def test_a_time_limit_is_decided_once_for_each_rung_and_holds_after_a_kill() -> None:
    kept: dict[str, Any] = {}

    def remember(key: str, decide: Any) -> Any:
        if key not in kept:
            kept[key] = decide()
        return kept[key]

    first = Club(seconds=10.0)
    run_course(ways(4), TERMS, first.train, Limit(lambda: 60.0, lambda: 10.0, remember))
    again = Club(seconds=1000.0)  # slower now, and no time is left: what was decided holds
    run_course(ways(4), TERMS, again.train, Limit(lambda: 0.0, lambda: 1000.0, remember))

    assert list(kept)[:3] == ["3 rungs left", "2 rungs left", "1 rungs left"]
    assert kept["3 rungs left"] == [[2, 1], [2, 1], [1, 2]]  # 12 shape epochs of 10 s are asked for, there are 60 s
    assert again.laps == first.laps


def test_where_fewer_shapes_entered_than_were_asked_for_the_rungs_after_count_those() -> None:
    kept: dict[str, Any] = {}
    limit = Limit(lambda: 80.0, lambda: 10.0, lambda key, decide: kept.setdefault(key, decide()))
    run_course(ways(8), replace(TERMS, epochs=7, drops=(0.01, 0.02), shapes=None), Club(seconds=10.0).train, limit)
    assert kept["3 rungs left"][0] == [3, 1]
    assert kept["2 rungs left"] == [[3, 1], [2, 2]]


class Settling(Club):
    """What a shape loses falls with the epochs, and the more the slower it is; nothing at 0.6, twelve points at 0.2."""

    def train(self, way: Way, epochs: int) -> Lap | None:
        lap = super().train(way, epochs)
        lost = max(0.0, 0.6 - way.runner.latency) * 0.3 / (sum(way.runner.epochs) + epochs) ** 0.5
        return lap and Lap(lap.steps, 0.9 - lost, self.seconds)


def latencies(*values: float) -> list[Way]:
    return [Way(Runner(f"s{int(100 * value)}", value, (), ()), ()) for value in values]


FIELD = (0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65)
TWO_OF_THEM = Terms(3, [0.02], 0.9, control=False, shapes=2)


def test_where_the_fastest_within_the_drop_needs_no_more_training_one_between_gets_its_place() -> None:
    club = Settling()
    ended = run_course(latencies(*FIELD), TWO_OF_THEM, club.train)
    # s45 lost 4.5 points and s60 none, so what is asked for ends between them, where s55 is in the middle.
    assert club.laps == [("s45", 1), ("s60", 1), ("s55", 2)]
    assert [(way.runner.key, way.runner.epochs) for way in ended] == [("s55", (2,)), ("s45", (1,)), ("s60", (1,))]


def test_time_that_is_left_over_is_spent_where_the_drop_ends_and_the_same_after_a_kill() -> None:
    kept: dict[str, Any] = {}

    def remember(key: str, decide: Any) -> Any:
        if key not in kept:
            kept[key] = decide()
        return kept[key]

    first, again = Settling(seconds=10.0), Settling(seconds=1000.0)
    left = iter([100.0, 80.0, 60.0, 40.0, 30.0, 5.0])
    ended = run_course(latencies(*FIELD), TWO_OF_THEM, first.train, Limit(lambda: next(left), lambda: 10.0, remember))
    repeated = run_course(latencies(*FIELD), TWO_OF_THEM, again.train, Limit(lambda: 0.0, lambda: 1000.0, remember))

    # s50 is the last between s45 and s55; after two epochs it is just beyond, after a third within.
    assert first.laps == [("s45", 1), ("s60", 1), ("s55", 2), ("s50", 2), ("s50", 1)]
    assert again.laps == first.laps
    assert [way.runner for way in ended] == [way.runner for way in repeated]
    assert ended[0].runner.key == "s50"
    assert ended[0].runner.drops[-1] < 0.02


def test_no_shapes_train_nothing() -> None:
    club = Club()
    assert run_course([], Terms(3, [0.02], 0.9, control=True), club.train) == []
    assert club.laps == []
