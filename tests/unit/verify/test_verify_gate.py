"""The gate: each line of the budget passes, fails and says why; better candidates never do worse."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trimtab.errors import DataError
from trimtab.recipe.schema import Budget
from trimtab.verify.accuracy import from_counts
from trimtab.verify.evidence import Evidence
from trimtab.verify.further import Further
from trimtab.verify.gate import Check, Decision, decide

Make = Callable[..., Evidence]


def check(decision: Decision, part: str) -> Check:
    return next(one for one in decision.checks if part in one.name)


def test_a_candidate_within_the_budget_passes_with_reasons_in_figures(make_evidence: Make) -> None:
    decision = decide(make_evidence(), Budget(max_drop=0.03, max_p99_ms=1.0), 0.95)
    assert decision.answer == "pass"
    assert decision.needed_rows is None
    assert all(one.passed and any(c.isdigit() for c in one.reason) for one in decision.checks)
    assert "4 lost, 2 gained of 500 rows" in check(decision, "gate").reason


def test_a_point_beyond_the_margin_fails(make_evidence: Make) -> None:
    decision = decide(make_evidence(lost=20, gained=0), Budget(max_drop=0.03), 0.95)
    assert decision.answer == "fail"
    assert check(decision, "gate").passed is False


def test_a_point_within_the_margin_with_too_wide_an_interval_is_undecided_and_says_how_many_rows_do(
    make_evidence: Make,
) -> None:
    decision = decide(make_evidence(), Budget(max_drop=0.01), 0.95)
    assert decision.answer == "undecided"
    assert decision.needed_rows is not None
    total = 500 + decision.needed_rows
    lost, gained = round(4 * total / 500), round(2 * total / 500)
    enough = from_counts(total - lost - gained, lost, gained, total, 0.95)
    assert enough.difference.low >= -0.01
    assert total < 20 * 500
    assert f"{decision.needed_rows:,} more rows" in check(decision, "gate").reason


def test_a_point_exactly_on_the_margin_can_be_decided_by_no_number_of_rows(make_evidence: Make) -> None:
    decision = decide(make_evidence(lost=5, gained=0), Budget(max_drop=0.01), 0.95)
    assert (decision.answer, decision.needed_rows) == ("undecided", None)
    assert "no number of rows" in check(decision, "gate").reason


def test_a_gain_below_the_noise_is_called_none(make_evidence: Make) -> None:
    decision = decide(make_evidence(speedup=1.04, noise=0.05), Budget(), 0.95)
    assert check(decision, "speed-up").reason.startswith("no gain")
    assert not check(decide(make_evidence(speedup=1.06, noise=0.05), Budget(), 0.95), "speed-up").reason.startswith(
        "no"
    )


@pytest.mark.parametrize(
    ("change", "budget", "part"),
    [
        ({"speedup": 1.4}, {"min_speedup": 1.5}, "speed-up"),
        ({"size": 60_000}, {"min_size_ratio": 2.0}, "size"),
        ({"p99_s": 2e-3}, {"max_p99_ms": 1.9}, "p99"),
        ({"max_abs": 2e-4}, {}, "probabilities"),
        ({"edge_ok": False}, {}, "edges"),
        ({"atol": None, "differing": 40}, {"max_disagreement": 0.05}, "decisions"),
        ({"champion": (30, 0)}, {}, "gate, against the champion"),
        ({"champion": (0, 0), "today": (0, 0), "must_improve": "today"}, {}, "better than the champion"),
    ],
)
def test_each_line_of_the_budget_can_fail_alone(make_evidence: Make, change: dict, budget: dict, part: str) -> None:
    decision = decide(make_evidence(**change), Budget(**budget), 0.95)
    assert decision.answer == "fail"
    assert [one.name for one in decision.checks if one.passed is False] == [check(decision, part).name]


def test_a_failed_check_wins_over_an_undecided_one(make_evidence: Make) -> None:
    assert decide(make_evidence(speedup=0.5), Budget(max_drop=0.01), 0.95).answer == "fail"


def test_int8_decides_by_the_upper_end_of_the_disagreement(make_evidence: Make) -> None:
    budget = Budget(max_disagreement=0.05)
    assert decide(make_evidence(atol=None, differing=8, max_abs=0.3), budget, 0.95).answer == "pass"
    open_ = decide(make_evidence(atol=None, differing=20, max_abs=0.3), budget, 0.95)
    assert open_.answer == "undecided"
    assert open_.needed_rows


def test_a_nan_probe_that_is_for_information_does_not_decide(make_evidence: Make) -> None:
    assert decide(make_evidence(), Budget(), 0.95).answer == "pass"


def test_a_retrain_must_really_be_better_than_the_champion(make_evidence: Make) -> None:
    def answer(today: tuple[int, int]) -> str:
        return decide(make_evidence(champion=(1, 1), today=today, must_improve="today"), Budget(), 0.95).answer

    assert answer((5, 60)) == "pass"
    assert answer((5, 8)) == "undecided"
    assert answer((8, 8)) == "fail"


def test_intervals_of_a_lower_confidence_cannot_decide(make_evidence: Make) -> None:
    with pytest.raises(DataError, match="cannot decide"):
        decide(make_evidence(confidence=0.9), Budget(), 0.95)


def test_evidence_for_an_improvement_that_was_not_measured_is_refused(make_evidence: Make) -> None:
    with pytest.raises(DataError, match="must improve"):
        make_evidence(must_improve="today")


def test_evidence_and_decision_survive_json_with_sorted_keys(make_evidence: Make) -> None:
    evidence = make_evidence(champion=(1, 2), today=(0, 9), must_improve="today")
    back = Evidence.from_json(json.loads(json.dumps(evidence.to_json(), sort_keys=True)))
    assert back == evidence
    assert back.first_batch == evidence.first_batch
    decision = decide(evidence, Budget(max_drop=0.01), 0.95)
    assert Decision.from_json(json.loads(json.dumps(decision.to_json()))) == decision
    assert decide(back, Budget(max_drop=0.01), 0.95) == decision


RANK = {"fail": 0, "undecided": 1, "pass": 2}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lost=st.integers(0, 12),
    gained=st.integers(0, 12),
    margin=st.sampled_from([0.0, 0.005, 0.01, 0.02, 0.03, 0.05]),
    speedup=st.floats(0.5, 3),
    size=st.integers(20_000, 150_000),
    p99_s=st.floats(1e-4, 3e-3),
    differing=st.integers(0, 20),
    champion=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    better=st.sampled_from(["fewer lost", "more gained", "faster", "smaller", "steadier", "nearer", "champion"]),
)
def test_a_better_candidate_never_gets_a_worse_answer(make_evidence: Make, better: str, margin: float, **start) -> None:
    given_ = {**start, "atol": None, "today": (0, 0)}
    changed = dict(given_)
    if better == "fewer lost":
        changed["lost"] = max(0, given_["lost"] - 1)
    elif better == "more gained":
        changed["gained"] = given_["gained"] + 1
    elif better == "faster":
        changed["speedup"] = given_["speedup"] * 1.2
    elif better == "smaller":
        changed["size"] = given_["size"] // 2
    elif better == "steadier":
        changed["p99_s"] = given_["p99_s"] / 2
    elif better == "nearer":
        changed["differing"] = max(0, given_["differing"] - 1)
    else:
        changed["champion"] = (max(0, given_["champion"][0] - 1), given_["champion"][1])
    budget = Budget(max_drop=margin, max_p99_ms=1.0)
    before, after = (decide(make_evidence(**one), budget, 0.95) for one in (given_, changed))
    assert RANK[after.answer] >= RANK[before.answer]


@pytest.mark.parametrize(
    ("changes", "failing"),
    [
        ({"max_abs": 0.5}, "probabilities equal torch's"),
        ({"max_abs": 0.5, "edge_ok": False}, "probabilities equal torch's"),
        ({"edge_ok": False}, "answers at the edges"),
        ({"atol": None, "differing": 200}, "decisions equal torch's"),
        ({}, None),
    ],
)
def test_the_first_layer_that_differs_is_said_once_with_the_check_that_fails(
    make_evidence: Make, changes: dict[str, Any], failing: str | None
) -> None:
    evidence = make_evidence(**changes)
    evidence = replace(evidence, parity=replace(evidence.parity, where="it first differs at model.0"))
    decision = decide(evidence, Budget(max_drop=0.03), 0.95)
    said = [one.name for one in decision.checks if "first differs at model.0" in one.reason]
    assert said == ([failing] if failing else [])


def test_further_outputs_of_fp32_must_equal_torchs_and_all_must_be_as_near_the_original_as_the_budget_says(
    make_evidence: Make,
) -> None:
    def decided(atol: float | None, one: Further, limit: float | None = None) -> Decision:
        evidence = make_evidence(atol=atol)
        evidence = replace(evidence, parity=replace(evidence.parity, further=(one,)))
        return decide(evidence, Budget(max_output_difference=limit), 0.95)

    right, wrong = Further("embedding", 1e-6, 1e-6, 0.2), Further("embedding", 1e-3, 1e-4, 0.2)
    assert decided(1e-4, right).answer == "pass"
    assert check(decided(1e-4, wrong), "output embedding equals torch's").passed is False
    assert decided(None, wrong).answer == "pass"
    assert not [one for one in decided(None, wrong).checks if "embedding" in one.name]
    for atol in (1e-4, None):
        assert decided(atol, right, 0.3).answer == "pass"
        failed = decided(atol, right, 0.1)
        assert failed.answer == "fail"
        assert "0.2 of its values'; 0.1 is allowed" in check(failed, "output embedding near the original's").reason


def test_a_budget_for_further_outputs_that_nobody_compared_is_an_error(make_evidence: Make) -> None:
    with pytest.raises(DataError, match="no further outputs were compared"):
        decide(make_evidence(), Budget(max_output_difference=0.1), 0.95)
