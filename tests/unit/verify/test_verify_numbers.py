"""Paired regressions: bootstrap intervals, the gate's three answers, parity of numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.bootstrap import intervals
from trimtab.errors import DataError
from trimtab.recipe.schema import Budget
from trimtab.verify import report
from trimtab.verify.evidence import Evidence
from trimtab.verify.gate import decide
from trimtab.verify.numbers import PairedNumbers, paired_from_json, paired_numbers
from trimtab.verify.parity import Parity, compare
from trimtab.verify.planning import rows_for_difference

Array = np.ndarray


def world(n: int = 200, noise: float = 0.0, bias: float = 0.0) -> tuple[Array, Array, Array]:
    """Original's answers, candidate's, labels: (n, 1)."""
    rng = np.random.default_rng(3)
    labels = rng.normal(size=(n, 1)) * 10
    original = labels + rng.normal(size=(n, 1))
    return original, original + noise * rng.normal(size=(n, 1)) + bias, labels


@pytest.mark.parametrize("metric", ["rmse", "mae", "r2"])
def test_the_same_model_twice_differs_by_nothing(metric: str) -> None:
    original, _, labels = world()
    found = paired_numbers(metric, original, original, labels, 0.95)  # type: ignore[arg-type]
    assert (found.difference.value, found.difference.low, found.difference.high) == (0, 0, 0)
    assert found.original.low < found.original.value < found.original.high


@pytest.mark.parametrize("metric", ["rmse", "mae", "r2"])
def test_a_worse_candidate_has_its_whole_interval_below_zero(metric: str) -> None:
    found = paired_numbers(metric, *world(noise=3.0), 0.95)  # type: ignore[arg-type]
    assert found.difference.low < found.difference.value < found.difference.high < 0
    assert found.lost > found.gained


def test_the_difference_of_an_error_is_relative_to_the_original() -> None:
    labels = np.arange(40.0).reshape(-1, 1)
    found = paired_numbers("mae", labels + 2, labels + 2.1, labels, 0.95)
    assert found.difference.value == pytest.approx(-0.05)
    assert found.amount(found.difference.value) == "5.00 % worse"


def test_pairing_makes_the_interval_narrower_than_that_of_either_model() -> None:
    found = paired_numbers("rmse", *world(noise=0.1), 0.95)
    alone = (found.original.high - found.original.low) / found.original.value
    assert found.difference.high - found.difference.low < alone / 2


def test_equal_answers_give_equal_intervals_to_the_last_bit() -> None:
    assert paired_numbers("rmse", *world(noise=1.0), 0.95) == paired_numbers("rmse", *world(noise=1.0), 0.95)


def test_too_few_rows_and_an_original_without_error_are_refused() -> None:
    original, candidate, labels = world(10)
    with pytest.raises(DataError, match="10 rows, a bootstrap wants 20"):
        paired_numbers("rmse", original, candidate, labels, 0.95)
    _, candidate, labels = world(40)
    with pytest.raises(DataError, match="MAE is 0"):
        paired_numbers("mae", labels, candidate, labels, 0.95)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.5, 50), st.integers(0, 1000))
def test_an_interval_of_a_mean_scales_with_the_rows(scale: float, seed: int) -> None:
    rows = np.random.default_rng(seed).exponential(size=(30, 1))

    def means(values: Array) -> Array:
        return values[..., 0][None]

    one, other = intervals(rows, means, 0.9), intervals(rows * scale, means, 0.9)
    np.testing.assert_allclose(other, np.multiply(one, scale), rtol=1e-9)


def test_it_survives_json_and_is_told_from_a_classifier_s() -> None:
    found = paired_numbers("r2", *world(noise=1.0), 0.95)
    assert paired_from_json(json.loads(json.dumps(found.to_json()))) == found


def evidence(paired: PairedNumbers) -> Evidence:
    from trimtab.candidate import Latency

    latency = Latency(1, 1, 1e-4, 2e-4, 100, 3.0, 2.9, 3.1, 5)
    size = {"size_bytes": 10, "original_size_bytes": 30}
    same = Fixed(0.0)
    parity = compare(same, same, INPUTS, None, 0.95, tolerance=0.1)
    return Evidence({"gate": paired}, parity, {1: latency}, {1: 0.02}, **size)


@pytest.mark.parametrize(("max_drop", "answer"), [(0.9, "pass"), (0.05, "fail")])
def test_the_gate_holds_the_relative_worsening_against_the_budget(max_drop: float, answer: str) -> None:
    paired = paired_numbers("rmse", *world(noise=0.9), 0.95)
    decision = decide(evidence(paired), Budget(max_drop=max_drop, max_disagreement=0.5), 0.95)
    assert decision.answer == answer
    assert decision.checks[0].name == "RMSE on gate, against the original"
    assert "% worse (95 % interval" in decision.checks[0].reason


def test_the_rows_an_undecided_gate_asks_for_would_decide_it() -> None:
    few = paired_numbers("rmse", *(part[:60] for part in world(4000, noise=0.7)), 0.95)
    limit = few.difference.value - (few.difference.value - few.difference.low) / 3
    budget = Budget(max_drop=-limit, max_disagreement=0.5)
    decision = decide(evidence(few), budget, 0.95)

    assert decision.answer == "undecided"
    assert decision.needed_rows is not None
    narrow = 1 / np.sqrt(1 + decision.needed_rows / 60)
    value = few.difference.value
    longer = replace(few, difference=replace(few.difference, low=value + (few.difference.low - value) * narrow))
    assert decide(evidence(longer), budget, 0.95).answer == "pass"
    assert rows_for_difference(few, few.difference.value + 1) is None


class Fixed:
    """Twice the input's sum, far from zero, with an error added to each answer."""

    def __init__(self, error: float, of_one_row: float = 0.0) -> None:
        self.spec = {"inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", 2]}], "outputs": []}
        self.error, self.of_one_row = error, of_one_row

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        answer = (1000 + 2 * inputs["input"].sum(1, keepdims=True)).astype(np.float32) + np.float32(self.error)
        answer[:1] += np.float32(self.of_one_row)
        return {"prediction": answer}


INPUTS = {"input": np.random.default_rng(1).normal(size=(100, 2)).astype(np.float32)}


def test_parity_of_numbers_is_relative_to_their_scale() -> None:
    near = compare(Fixed(0.0), Fixed(0.01), INPUTS, 1e-4, 0.95, tolerance=0.1)
    far = compare(Fixed(0.0), Fixed(1.0), INPUTS, 1e-4, 0.95, tolerance=0.1)
    assert near.max_abs == pytest.approx(0.01 / 1000, rel=0.1)
    assert near.edges_ok
    assert far.max_abs > 1e-4
    assert not far.edges_ok


def test_answers_beyond_the_tolerance_are_counted() -> None:
    spread = float(Fixed(0.0).predict(INPUTS)["prediction"].std())
    within = compare(Fixed(0.0), Fixed(0.09 * spread), INPUTS, None, 0.95, tolerance=0.1)
    beyond = compare(Fixed(0.0), Fixed(0.11 * spread), INPUTS, None, 0.95, tolerance=0.1)
    one = compare(
        Fixed(0.0), Fixed(0.0, of_one_row=spread), {"input": INPUTS["input"][:100]}, None, 0.95, tolerance=0.1
    )
    assert within.disagreement.value == 0
    assert beyond.disagreement.value == 1
    assert one.disagreement.value == 0.01


def test_numbers_that_differ_are_explained_and_the_gate_says_where() -> None:
    def explained(atol: float | None, error: float, allowed: float = 1.0) -> Parity:
        return compare(
            Fixed(0.0),
            Fixed(error),
            INPUTS,
            atol,
            0.95,
            tolerance=0.1,
            explain=lambda rows, _: f"it first differs at model.0, of {len(rows['input'])} rows",
            max_disagreement=allowed,
        )

    assert explained(1e-4, 0.01).where is None
    assert explained(None, 1.0).where is None  # all are beyond the tolerance, and all may be
    assert explained(None, 1.0, allowed=0.5).where == "it first differs at model.0, of 5 rows"
    wrong = replace(evidence(paired_numbers("rmse", *world(noise=0.3), 0.95)), parity=explained(1e-4, 1.0))
    reasons = {check.name: check.reason for check in decide(wrong, Budget(), 0.95).checks}
    told = "of the largest answer on 100 rows; 0.0001 is allowed; it first differs at model.0, of 5 rows"
    assert reasons["answers equal torch's"].endswith(told)


def test_parity_of_a_classifier_is_recorded_as_before() -> None:
    parity = compare(Fixed(0.0), Fixed(0.0), INPUTS, None, 0.95, tolerance=0.1)
    assert "tolerance" not in replace(parity, tolerance=None).to_json()


def test_the_report_of_a_regression_has_no_section_of_classes(
    points: list[dict[str, Any]], meta: dict[str, Any]
) -> None:
    paired = paired_numbers("rmse", *world(noise=0.3), 0.95)
    measured = evidence(paired)
    decision = decide(measured, Budget(max_drop=0.5, max_disagreement=0.5), 0.95)
    scatter = np.random.default_rng(0).normal(size=(20, 1, 2))
    spots = [{**point, "accuracy": -point["p99_ms"]} for point in points]
    own = {**meta, "labels": [], "seen": None, "confusion_before": scatter, "confusion_after": scatter}

    page = report.render("t", measured, decision, spots, spots[:2], own)  # type: ignore[arg-type]
    content = report.as_json("t", measured, decision, spots, spots[:2], own)  # type: ignore[arg-type]

    for absent in ("accuracy", "Which classes", "McNemar", "Clopper", "probability", "points", "validation rows"):
        assert absent not in page, absent
    assert "RMSE, paired with the original" in page
    assert "4,000 draws of rows" in page
    assert content["metric"] == "rmse"
    assert not {"confusion", "seen"} & content.keys()


def test_an_interval_corrected_for_many_slices_takes_draws_enough_to_have_an_end(monkeypatch) -> None:
    import scipy.stats

    asked = []
    real = scipy.stats.bootstrap

    def counted(*args, n_resamples, **more):
        asked.append(n_resamples)
        return real(*args, n_resamples=500, **more)

    monkeypatch.setattr(scipy.stats, "bootstrap", counted)
    truth = np.random.default_rng(0).normal(size=(50, 1))
    for confidence in (0.95, 0.9998):
        paired_numbers("rmse", truth + 1, truth + 0.9, truth, confidence)
    assert asked[-1] * (1 - 0.9998) / 2 >= 19.9
    assert asked[0] < asked[-1]
