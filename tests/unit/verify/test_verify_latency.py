"""Latency: who is called how often, in which order, on which rows; and the arithmetic on given times."""

import gc
import json
from collections.abc import Mapping

import numpy as np
import pytest

from trimtab.errors import DataError
from trimtab.recipe.schema import Measure
from trimtab.verify.latency import SETTLE_CALLS, WARM_UP_CALLS, measure, summarize

Array = np.ndarray
INPUTS = {"input": np.arange(5, dtype=np.float32)[:, None]}


class Recorder:
    """Writes down each call in a shared diary: own name, rows seen, whether garbage could be collected."""

    def __init__(self, name: str, diary: list[tuple[str, tuple[float, ...], bool]]) -> None:
        self.name, self.diary, self.spec = name, diary, {}

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.diary.append((self.name, tuple(inputs["input"][:, 0]), gc.isenabled()))
        return {}


def run(settings: Measure) -> tuple[list[tuple[str, tuple[float, ...], bool]], list[tuple[int, int]], object]:
    diary: list[tuple[str, tuple[float, ...], bool]] = []
    seen: list[tuple[int, int]] = []
    timings = measure(
        Recorder("base", diary),
        {"a": Recorder("a", diary), "b": Recorder("b", diary)},
        INPUTS,
        settings,
        lambda done, total: seen.append((done, total)),
    )
    return diary, seen, timings


def turns(diary: list[tuple[str, tuple[float, ...], bool]], length: int) -> list[str]:
    timed = diary[4 * WARM_UP_CALLS :]
    return [timed[start][0] for start in range(0, len(timed), length)]


def test_each_round_every_predictor_takes_one_turn_and_the_baseline_two() -> None:
    diary, _, _ = run(Measure(batch_sizes=[2], rounds=4, calls=3))
    order = turns(diary, 3 + SETTLE_CALLS)
    rounds = [order[start : start + 4] for start in range(0, len(order), 4)]
    assert len(rounds) == 4
    assert all(sorted(one) == ["a", "b", "base", "base"] for one in rounds)


def test_the_order_changes_between_rounds_and_is_the_same_in_the_next_run() -> None:
    settings = Measure(batch_sizes=[2], rounds=8, calls=1)
    first, second = (turns(run(settings)[0], 1 + SETTLE_CALLS) for _ in range(2))
    assert first == second
    assert len({tuple(first[start : start + 4]) for start in range(0, len(first), 4)}) > 1


def test_all_get_the_same_rows_in_a_round_and_other_rows_in_the_next() -> None:
    diary, _, _ = run(Measure(batch_sizes=[2], rounds=3, calls=1))
    timed = diary[4 * WARM_UP_CALLS :]
    a_round = 4 * (1 + SETTLE_CALLS)
    rows = [{one[1] for one in timed[start : start + a_round]} for start in range(0, len(timed), a_round)]
    assert rows == [{(0.0, 1.0)}, {(2.0, 3.0)}, {(4.0, 0.0)}]


def test_a_batch_larger_than_the_split_repeats_its_rows() -> None:
    diary, _, _ = run(Measure(batch_sizes=[7], rounds=3, calls=1))
    assert diary[0][1] == (0.0, 1.0, 2.0, 3.0, 4.0, 0.0, 1.0)


def test_garbage_collection_is_off_while_timing_and_on_again_afterwards() -> None:
    diary, _, _ = run(Measure(batch_sizes=[2], rounds=3, calls=1))
    assert not any(enabled for _, _, enabled in diary[4 * WARM_UP_CALLS :])
    assert gc.isenabled()


def test_progress_counts_every_turn_up_to_the_end() -> None:
    _, seen, _ = run(Measure(batch_sizes=[1, 2], rounds=3, calls=1))
    total = 2 * 3 * 4
    assert seen == [(done, total) for done in range(1, total + 1)]


def test_timings_hold_every_name_and_batch_and_where_they_were_taken() -> None:
    _, _, timings = run(Measure(batch_sizes=[4, 1], rounds=3, calls=2, threads=2))
    assert set(timings.by_name) == {"baseline", "a", "b"}
    assert list(timings.by_name["a"]) == list(timings.noise_floor) == [4, 1]
    assert timings.by_name["a"][4].n == 6
    assert timings.by_name["a"][4].threads == timings.threads == 2
    assert timings.by_name["baseline"][1].speedup == 1.0
    assert json.loads(json.dumps(timings.to_json()))["by_name"]["b"]["4"]["rounds"] == 3
    assert "torch" in timings.versions
    assert timings.cores >= 1
    assert timings.cpu
    assert len(timings.host) == 12


def test_a_speedup_is_the_median_of_ratios_within_rounds_so_a_slow_spell_cancels() -> None:
    baseline = [[1.0, 1.0, 9.0], [10.0, 10.0, 10.0], [1.0, 1.0, 1.0]]
    own = [[0.5, 0.5, 0.5], [5.0, 5.0, 5.0], [0.25, 0.25, 0.25]]
    latency = summarize(baseline, own, batch=8, threads=1)
    assert (latency.speedup, latency.speedup_low, latency.speedup_high) == (2.0, 2.0, 4.0)
    assert (latency.p50_s, latency.n, latency.rounds, latency.batch) == (0.5, 9, 3, 8)
    assert latency.p99_s == pytest.approx(5.0)


def test_a_name_of_the_baseline_and_an_empty_split_are_refused() -> None:
    with pytest.raises(DataError, match="baseline's name"):
        measure(Recorder("x", []), {"baseline": Recorder("y", [])}, INPUTS, Measure())
    with pytest.raises(DataError, match="no rows"):
        measure(Recorder("x", []), {}, {"input": np.zeros((0, 1))}, Measure())
