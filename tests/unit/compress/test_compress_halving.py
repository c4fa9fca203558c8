"""Halving: epochs add up, the fastest within the drop go on, each drop keeps its own line, time limits shorten."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from trimtab.compress.search.halving import (
    Rung,
    Runner,
    expected_drop,
    fit_in,
    next_to_train,
    promote,
    rungs,
    who_gains,
    worth_keeping,
)
from trimtab.compress.search.latency_model import fit_latency


def test_eight_shapes_and_fifteen_epochs() -> None:
    assert rungs(8, 15) == [Rung(8, 1), Rung(4, 2), Rung(2, 4), Rung(1, 8)]


@given(st.integers(1, 40), st.integers(1, 200), st.integers(1, 4))
def test_who_goes_all_the_way_is_trained_for_all_epochs(shapes: int, epochs: int, last: int) -> None:
    found = rungs(shapes, epochs, last)
    assert sum(rung.epochs for rung in found) == epochs
    assert all(rung.epochs >= 1 for rung in found)
    assert [rung.shapes for rung in found] == sorted((rung.shapes for rung in found), reverse=True)
    assert found[0].shapes == max(shapes, last)
    assert all(rung.shapes >= last for rung in found)


def runner(key: str, latency: float, *drops: float) -> Runner:
    return Runner(key, latency, drops, tuple([2, 4, 8][: len(drops)]))


def test_the_drop_is_carried_on_as_a_power_of_the_epochs() -> None:
    # 4 points after 2 epochs, 2 after 6: half for every three times as many, so 1 at 18.
    assert math.isclose(expected_drop(runner("a", 0.5, 0.04, 0.02), 18), 0.01)
    assert math.isclose(expected_drop(runner("a", 0.5, 0.02), 18), 0.02 / 3)  # 18 is 9 times 2
    assert expected_drop(runner("a", 0.5, -0.01), 18) == -0.01
    assert expected_drop(runner("a", 0.5, 0.01, -0.02), 18) == -0.02
    assert expected_drop(runner("a", 0.5, 0.01, 0.02), 18) == 0.02  # it got worse: not carried on
    assert expected_drop(runner("a", 0.5, -0.01, 0.02), 18) == 0.02


def test_the_fastest_that_is_expected_to_stay_within_the_drop_goes_on() -> None:
    field = [runner("fast", 0.3, 0.05), runner("middle", 0.5, 0.004), runner("slow", 0.9, 0.0)]
    assert [one.key for one in promote(field, 1, [0.005], 2)] == ["middle"]
    assert [one.key for one in promote(field, 2, [0.005, 0.06], 2)] == ["middle", "fast"]
    assert [one.key for one in promote(field, 1, [0.02], 18)] == ["fast"]  # 5 points after 2 epochs may be 1.7 after 18


def test_where_none_is_within_the_drop_the_nearest_goes_on() -> None:
    field = [runner("fast", 0.3, 0.05), runner("slow", 0.9, 0.02)]
    assert [one.key for one in promote(field, 1, [0.005], 2)] == ["slow"]


def test_the_place_of_one_that_needs_no_more_training_goes_to_one_that_may_beat_it() -> None:
    fast, settled = runner("fast", 0.3, 0.06, 0.03), runner("settled", 0.7, 0.01, 0.001)
    waiting = [runner(f"w{i}", i / 10) for i in range(1, 10)]
    assert [one.key for one in promote([fast, settled], 1, [0.01], 18, waiting)] == ["w5"]  # of w4, w5 and w6
    assert [one.key for one in promote([fast, settled], 2, [0.01], 18, waiting)] == ["w5", "w6"]
    tried = [runner("tried", 0.65, 0.02)]  # it was left behind, so nothing faster is worth it
    assert [one.key for one in promote([fast, settled], 1, [0.009], 18, [runner("w6", 0.6)], tried)] == ["settled"]
    assert [one.key for one in promote([fast, settled], 1, [0.012], 18)] == ["fast"]  # 1.5 points: not far beyond 1.2
    assert [one.key for one in promote([fast, settled], 1, [0.0012], 18, waiting)] == ["settled"]  # not yet


def test_time_that_is_left_over_goes_where_it_can_change_who_is_chosen() -> None:
    full, short = runner("full", 0.5, 0.03, 0.02), runner("short", 0.4, 0.06)
    waiting = [runner("w", 0.45)]
    assert who_gains([full, short], [0.03], 6, waiting, 4) == waiting[0]
    assert who_gains([full, short], [0.03], 6, [], 4) == short
    assert who_gains([full], [0.02], 6, [], 4) is None  # not settled, and not to be trained on
    assert who_gains([full, short], [0.02, 0.03], 6, [], 4) == short
    assert who_gains([runner("only", 0.9, 0.0)], [0.02], 2, [], 4) is None
    assert who_gains([], [0.02], 2, waiting, 4) is None


def test_the_next_to_be_trained_lies_in_the_middle_of_what_is_unknown_and_the_drops_take_turns() -> None:
    left = [runner(f"u{i}", i / 10) for i in range(1, 10)]
    assert next_to_train([], left, [0.01], 2).key == "u5"
    within, beyond = runner("w", 0.5, 0.0), runner("b", 0.15, 0.05)
    assert next_to_train([within], left, [0.01], 2).key == "u3"  # of u1 to u4
    assert next_to_train([beyond], left, [0.01], 2).key == "u6"  # of u2 to u9
    assert next_to_train([within, beyond], left, [0.01], 2).key == "u3"  # of u2 to u4
    slow = runner("s", 0.75, 0.008)
    assert next_to_train([slow], left, [0.001, 0.01], 2).key == "u4"  # the second drop: faster than 0.75
    assert next_to_train([slow, beyond], left, [0.001, 0.01], 2).key == "u9"  # the first: slower


def test_where_the_ends_of_all_drops_are_known_their_neighbours_are_next() -> None:
    trained = [runner("within", 0.50, 0.0), runner("beyond", 0.45, 0.05)]
    left = [runner("far", 0.2), runner("near", 0.56), runner("farther", 0.9)]
    assert next_to_train(trained, left, [0.01], 2).key == "near"


def test_a_slow_one_beyond_the_drop_does_not_hide_a_faster_one_within() -> None:
    trained = [runner("within", 0.5, 0.0), runner("lucky", 0.8, 0.05)]
    assert next_to_train(trained, [runner("fast", 0.4), runner("slow", 0.9)], [0.01], 2).key == "fast"


def test_a_time_limit_takes_epochs_and_never_the_last_one() -> None:
    left = [Rung(4, 4), Rung(2, 8)]
    assert fit_in(left, 1.0, 100.0) == left
    assert fit_in(left, 1.0, 16.0) == [Rung(4, 2), Rung(2, 4)]
    assert fit_in(left, 1.0, 20.0) == [Rung(4, 2), Rung(2, 6)]  # 5 rounded down, and 2 seconds left over
    assert fit_in(left, 1.0, -5.0) == [Rung(3, 1), Rung(2, 1)]  # one more than go on
    assert fit_in(left, 1.0, 44.0, more=1) == left  # 5 * 4 + 3 * 8 = 44
    assert fit_in(left, 1.0, 43.0, more=1) != left


def test_where_time_is_short_fewer_shapes_are_trained_so_that_those_that_go_on_get_more_of_it() -> None:
    left = [Rung(6, 3), Rung(3, 6), Rung(2, 15)]
    assert fit_in(left, 1.0, 14.0) == [Rung(3, 1), Rung(3, 1), Rung(2, 4)]
    assert fit_in(left, 1.0, 24.0) == [Rung(6, 1), Rung(3, 2), Rung(2, 6)]  # its share is an epoch for each


@given(st.integers(1, 12), st.integers(1, 40), st.integers(1, 3), st.floats(-10, 500))
def test_rungs_in_time_never_grow_wider_or_longer_than_asked_for(
    shapes: int, epochs: int, last: int, time_left: float
) -> None:
    asked = rungs(shapes, epochs, last)
    found = fit_in(asked, 1.0, time_left)
    assert [rung.shapes for rung in found] == sorted((rung.shapes for rung in found), reverse=True)
    assert all(1 <= one.epochs <= other.epochs for one, other in zip(found, asked, strict=True))
    assert all(last <= one.shapes <= other.shapes for one, other in zip(found, asked, strict=True))
    spent = sum(rung.shapes * rung.epochs for rung in found)
    assert spent <= max(time_left, 0) + len(found) * (asked[-1].shapes + 1)


def test_kept_are_those_no_other_beats() -> None:
    field = [runner("a", 0.3, 0.05), runner("b", 0.5, 0.01), runner("c", 0.6, 0.02), runner("d", 0.9, 0.0)]
    assert {one.key for one in worth_keeping(field, 9)} == {"a", "b", "d"}
    assert worth_keeping([Runner("new", 0.1, (), ())], 9) == []


def test_too_few_shapes_give_no_latency_model() -> None:
    features = [{"macs": 1.0, "activations": 1.0, "parameters": 1.0, "layers": 1.0}] * 7
    assert fit_latency(features, [1.0] * 7) is None


@given(st.lists(st.tuples(st.floats(0.1, 1), st.floats(0.1, 1)), min_size=12, max_size=20, unique=True))
def test_an_additive_latency_is_found_again(parts: list[tuple[float, float]]) -> None:
    features = [{"macs": m, "activations": a, "parameters": 0.0, "layers": 0.0} for m, a in parts]
    truth = [0.2 + 0.5 * m + 0.3 * a for m, a in parts]
    model = fit_latency(features, truth)
    assert model is not None
    predicted = [model.predict(one) for one in features]
    assert all(math.isclose(p, t, rel_tol=1e-3) for p, t in zip(predicted, truth, strict=True))
