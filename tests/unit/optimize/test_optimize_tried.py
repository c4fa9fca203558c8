"""Which trial is chosen, what is on the front, and which trial in progress is given up."""

from __future__ import annotations

import csv
import io
import json

from hypothesis import given
from hypothesis import strategies as st

from trimtab.optimize.tried import Speed, Tried, choose, dominated, front, standard_error, table


def trial(
    number: int, accuracy: float, share: float | None = None, loss: float = 0.5, curve: tuple[float, ...] = ()
) -> Tried:
    speed = None if share is None else Speed(share / 1000, share, "onnxruntime-cpu")
    return Tried(number, {"train.lr": 0.1}, "complete", accuracy, loss, curve or (accuracy,), speed=speed)


def test_of_equally_accurate_trials_the_one_with_the_lower_loss_is_chosen() -> None:
    tried = [trial(0, 0.8), trial(1, 0.9, loss=0.4), trial(2, 0.9, loss=0.3), Tried(3, {}, "stopped", 0.99, 0.1)]

    assert choose(tried, 100) == tried[2]
    assert choose([tried[3]], 100) is None


def test_with_latency_the_fastest_within_one_standard_error_of_the_best_is_chosen() -> None:
    # 0.90 of 400 rows: one standard error is 1.5 points.
    tried = [trial(0, 0.90, 1.0), trial(1, 0.886, 0.5), trial(2, 0.884, 0.2), trial(3, 0.80, 0.1)]

    assert choose(tried, 400) == tried[1]
    assert choose(tried, 300) == tried[2]


def test_where_no_row_is_missed_the_standard_error_is_not_zero() -> None:
    assert 0 < standard_error(1.0, 100) < standard_error(0.9, 100)


points = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)), min_size=1, max_size=12)


@given(points)
def test_every_trial_is_on_the_front_or_beaten_by_one_that_is(values: list[tuple[int, int]]) -> None:
    tried = [trial(number, accuracy / 6, float(share)) for number, (accuracy, share) in enumerate(values)]
    on_front = front(tried)

    def beaten(one: Tried) -> bool:
        mine = (-one.objectives()[0], one.objectives()[1])  # type: ignore[index]
        theirs = [(-other.objectives()[0], other.objectives()[1]) for other in on_front]  # type: ignore[index]
        return any(a <= mine[0] and b <= mine[1] and (a, b) != mine for a, b in theirs)

    assert on_front
    assert all(beaten(one) != (one in on_front) for one in tried)


def test_a_slow_trial_is_given_up_against_the_fast_ones_and_a_fast_one_is_not() -> None:
    fast = [trial(number, 0.9, 0.2, curve=(0.5, 0.6 + number / 100)) for number in range(5)]

    assert dominated(fast, 0.3, [0.1, 0.61], least_trials=5)
    assert not dominated(fast, 0.3, [0.1, 0.62], least_trials=5)  # the median is 0.62
    assert not dominated(fast, 0.3, [0.7, 0.1], least_trials=5)  # it was better before
    assert not dominated(fast, 0.1, [0.1, 0.1], least_trials=5)  # nothing is as fast
    assert not dominated(fast[:4], 0.3, [0.1, 0.1], least_trials=5)
    assert not dominated(fast, 0.3, [0.1, 0.1, 0.1], least_trials=5)  # theirs are over by then


def test_a_trial_comes_back_from_json_and_the_table_has_a_line_for_each() -> None:
    tried = [trial(0, 0.9, 0.5), Tried(1, {"model.kwargs.hidden": [8]}, "failed", reason="ModelError: no, so")]

    assert [Tried.from_json(json.loads(json.dumps(one.to_json()))) for one in tried] == tried
    rows = list(csv.DictReader(io.StringIO(table(tried, tried[0]))))
    assert [(row["chosen"], row["on_front"], row["reason"]) for row in rows] == [
        ("True", "True", ""),
        ("False", "", "ModelError: no, so"),
    ]
    assert rows[1]["model.kwargs.hidden"] == "[8]"
