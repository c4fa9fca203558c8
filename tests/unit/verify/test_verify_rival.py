"""On a recompression the gate asks for one thing more: better than the champion at the figure that was too much."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from trimtab.recipe.schema import Budget
from trimtab.verify.evidence import Evidence
from trimtab.verify.gate import decide
from trimtab.verify.rival import Rival, check_rival

Make = Callable[..., Evidence]


@pytest.mark.parametrize(("gain", "noise", "passed"), [(1.2, 0.1, True), (1.1, 0.1, False), (0.8, 0.0, False)])
def test_a_gain_within_the_noise_is_none(gain: float, noise: float, passed: bool) -> None:
    check = check_rival(Rival("latency", 4.0, 4.0 / gain, gain, noise))

    assert check.passed is passed
    assert "the champion 4.000 ms" in check.reason


def test_a_recompression_that_gains_nothing_does_not_pass_whatever_else_it_does(make_evidence: Make) -> None:
    evidence = make_evidence()
    budget = Budget(max_drop=0.03)
    assert decide(evidence, budget, 0.95).answer == "pass"

    better, worse = (replace(evidence, rival=Rival("size", 2000.0, own, 2000.0 / own, 0.01)) for own in (1000, 2000))

    assert decide(better, budget, 0.95).answer == "pass"
    decision = decide(worse, budget, 0.95)
    assert decision.answer == "fail"
    assert [check.name for check in decision.checks if check.passed is False] == ["better than the champion in size"]


def test_the_evidence_keeps_it_and_evidence_from_before_is_still_read(make_evidence: Make) -> None:
    evidence = replace(make_evidence(), rival=Rival("memory", 30.0, 20.0, 1.5, 0.1))
    again = json.loads(json.dumps(evidence.to_json()))

    assert Evidence.from_json(again).rival == evidence.rival
    del again["rival"]
    assert Evidence.from_json(again).rival is None
