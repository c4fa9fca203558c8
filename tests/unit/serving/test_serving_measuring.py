"""What a release's plan is decided from: a model that costs what the test says, on a clock of the test's own."""

from __future__ import annotations

import json
from typing import ClassVar

import numpy as np
import pytest

from trimtab.serving.limits import Limits
from trimtab.serving.measuring import Subject, best_workers, durations, plan_for
from trimtab.serving.release import load_release

ROWS = {"input": np.arange(24, dtype=np.float32).reshape(8, 3)}


class Costing:
    """Answers its input; a call of n rows takes `cost(n)` seconds of a clock that only calls move."""

    reentrant = False
    spec: ClassVar[dict] = {"inputs": []}

    def __init__(self, cost, answer=lambda inputs: inputs["input"]):
        self.cost, self.answer, self.now = cost, answer, 0.0
        self.sizes = set()

    def predict(self, inputs):
        rows = len(inputs["input"])
        self.now += self.cost(rows)
        self.sizes.add(rows)
        return {"probabilities": self.answer(inputs)}

    def clock(self):
        return self.now


def planned(model, **limits):
    return plan_for(Subject(model, ROWS), Limits(**{"max_wait_s": 1.0, **limits}), model.clock)


def test_calls_are_shared_where_that_is_faster():
    plan = planned(Costing(lambda rows: 0.001 + 0.0001 * rows), max_rows=16)
    assert plan.shares
    assert plan.max_rows == 16
    assert plan.row_s == pytest.approx(0.0011)
    assert plan.took[16] == pytest.approx(0.0026)
    assert plan.together([1] * 40) == 15  # one more would gain next to nothing
    assert "15 rows take 0.002500 s" in plan.why


def test_calls_are_not_shared_where_that_is_not_faster():
    for cost in (lambda rows: 0.001 * rows, lambda rows: 0.001 * rows**2):
        plan = planned(Costing(cost))
        assert not plan.shares
        assert plan.together([1] * 10) == 1
        assert "no gain" in plan.why


def test_a_gain_that_would_take_longer_than_the_wait_is_none():
    slow = Costing(lambda rows: 0.1 + 0.01 * rows)
    assert planned(slow, max_wait_s=1.0).together([1] * 64) == 28
    assert planned(slow, max_wait_s=0.025).together([1] * 64) == 3
    assert not planned(slow, max_wait_s=0.001).shares


def test_of_a_slow_model_no_calls_are_made_that_the_wait_rules_out():
    slow = Costing(lambda rows: 2.0 * rows)
    planned(slow, max_wait_s=0.005)
    assert slow.sizes == {1, 2}


def test_a_call_that_was_interrupted_does_not_end_the_sizes():
    calls = {1: 0, 2: 0, 4: 0}

    def cost(rows):
        calls[rows] += 1
        return 0.001 if calls[rows] == 2 else 0.5

    model = Costing(cost)
    durations(Subject(model, ROWS), Limits(max_rows=4, max_wait_s=0.005), model.clock)
    assert model.sizes == {1, 2, 4}


def test_sizes_between_those_measured_lie_on_straight_lines():
    plan = planned(Costing(lambda rows: 0.001 * rows**0.5), max_rows=6)
    assert [len(plan.took), plan.took[1]] == [7, pytest.approx(0.001)]
    assert plan.took[3] == pytest.approx((plan.took[2] + plan.took[4]) / 2)
    assert plan.took[6] == pytest.approx(0.001 * 6**0.5)


def test_the_recipe_has_the_last_word():
    flat, linear = Costing(lambda rows: 0.001), Costing(lambda rows: 0.001 * rows)
    off = planned(flat, batching="off")
    assert (off.shares, off.together([1, 1])) == (False, 1)
    assert flat.sizes == set()
    assert not planned(Costing(lambda rows: 0.001), max_rows=1).shares
    on = planned(linear, batching="on", max_rows=4)
    assert (on.shares, on.together([1] * 9)) == (True, 4)
    assert planned(linear, batching="on", max_rows=4, max_wait_s=0.0015).together([1] * 9) == 2


def by_the_whole_call(inputs):
    """As dynamic quantization does: one scale for all rows of a call."""
    scale = np.abs(inputs["input"]).max() / 127
    return np.round(inputs["input"] / scale) * scale


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_a_model_whose_rows_depend_on_each_other_never_shares_calls(mode):
    plan = planned(Costing(lambda rows: 0.001, by_the_whole_call), batching=mode)
    assert not plan.shares
    assert "depend on who shares the call" in plan.why


@pytest.mark.parametrize(
    "answer",
    [
        lambda inputs: inputs["input"] + np.float32(np.nan if len(inputs["input"]) > 1 else 0),
        lambda inputs: inputs["input"][:1],
    ],
)
def test_other_answers_to_a_shared_call_than_to_single_ones_are_seen(answer):
    assert not planned(Costing(lambda rows: 0.001, answer)).shares


def test_one_golden_row_shows_nothing():
    model = Costing(lambda rows: 0.001)
    plan = plan_for(Subject(model, {"input": ROWS["input"][:1]}), Limits(), model.clock)
    assert not plan.shares
    assert "one golden row" in plan.why


def test_a_size_the_model_cannot_take_is_left_out():
    def cost(rows):
        if rows > 10:
            raise MemoryError
        return 0.001

    plan = planned(Costing(cost))
    assert (plan.shares, plan.max_rows) == (True, 8)


def test_medians_are_taken_so_that_a_hiccup_decides_nothing():
    calls = {"n": 0}

    def cost(rows):
        calls["n"] += 1
        return 0.001 * rows + (5.0 if calls["n"] % 7 == 0 else 0.0)

    model = Costing(cost)
    seconds = durations(Subject(model, ROWS), Limits(max_rows=4, max_wait_s=100.0), model.clock)
    assert seconds == {1: pytest.approx(0.001), 2: pytest.approx(0.002), 4: pytest.approx(0.004)}


def test_more_workers_are_taken_while_they_bring_half_of_what_they_should():
    assert best_workers(lambda count: 100.0 * count, 8) == 8
    assert best_workers(lambda count: 100.0 * min(count, 4), 16) == 4
    assert best_workers(lambda count: 100.0, 16) == 1
    assert best_workers(lambda count: 100.0 * (1 + 0.4 * (count - 1)), 2) == 1
    assert best_workers(lambda count: 100.0 * (1 + 0.6 * (count - 1)), 3) == 3
    assert best_workers(lambda count: 1 / 0, 1) == 1


def test_workers_are_the_recipes_number_unless_the_predictor_takes_one_thread():
    model = Costing(lambda rows: 0.001)
    plan = planned(model, workers=4)
    assert plan.workers == 1
    assert "not 4" in plan.why
    model.reentrant = True
    assert planned(model, workers=4).workers == 4


def test_workers_are_measured_where_the_recipe_names_none(monkeypatch):
    monkeypatch.setattr("trimtab.serving.measuring.cores", lambda: 1)
    model = Costing(lambda rows: 0.001)
    model.reentrant = True
    assert planned(model).workers == 1


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({}, Limits()),
        ({"workers": "auto", "batching": {}}, Limits()),
        ({"processes": "auto"}, Limits(processes=None)),
        ({"processes": 4}, Limits(processes=4)),
        ({"workers": 3, "max_queue_per_client": 5}, Limits(workers=3, max_per_client=5)),
        (
            {"batching": {"mode": "off", "max_rows": 4, "max_wait_ms": 2}},
            Limits(batching="off", max_rows=4, max_wait_s=0.002),
        ),
    ],
)
def test_the_plans_limits_come_from_the_release(section, expected):
    assert Limits.from_json(section) == expected


@pytest.mark.parametrize(
    "section",
    [{"workers": 0}, {"workers": "many"}, {"processes": -1}, {"processes": 65},
     {"processes": "many"}, {"max_queue_per_client": 0}, {"batching": "on"},
     {"batching": {"mode": "perhaps"}}, {"batching": {"max_rows": 0}}, {"batching": {"max_wait_ms": -1}},
     {"batching": {"max_wait_ms": "nan"}}],
)  # fmt: skip
def test_nonsense_in_the_release_is_refused(section):
    with pytest.raises(Exception, match=r"release\.json"):
        Limits.from_json(section)


def test_a_loaded_release_has_its_plan(tmp_path, monkeypatch):
    spec = {"inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", 3]}], "outputs": []}
    facts = {"name": "tiny", "target": "fake", "precision": "fp32", "classes": 3}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    for section, workers in (({"workers": 2}, 2), ({"workers": 2, "batching": {"mode": "off"}}, 2)):
        (tmp_path / "release.json").write_text(json.dumps({**facts, "serving": section}))
        np.savez(tmp_path / "golden.npz", **{"inputs/input": ROWS["input"], "outputs/probabilities": ROWS["input"]})
        model = Costing(lambda rows: 0.0)
        model.reentrant = True
        release = load_release(tmp_path, "1", check=lambda folder: None, load=lambda *_, model=model: model)
        assert release.plan.workers == workers
        assert bool(release.plan.took) == (section.get("batching") is None)
