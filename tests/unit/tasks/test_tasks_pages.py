"""What artifacts, MLflow and Prefect are told, as values: no server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prefect.states import StateType

from tasks import monitor, react, register, reporting
from tasks.monitor import said
from tasks.selection_record import Standing, metrics, row
from trimtab.compress.search import Point, front
from trimtab.monitoring.policy import Decision
from trimtab.recipe.schema import Budget
from trimtab.verify import gate
from trimtab.verify.slices import compare_slices

VERDICT: Any = SimpleNamespace(kind="drift+damage", lo=250, hi=500, version="1", reasons=("accuracy fell", "drift"))
FAST = Point("aa", "onnxruntime-cpu", "int8", 0.97, 0.01, {1: 3.0, 8: 2.0}, 4.0, 0.2)
PLAIN = Point("bb", "onnxruntime-cpu", "original", 0.96, 0.02, {1: 1.5, 8: 1.2}, 1.0, 0.4)
SLOW = Point("cc", "torchscript-cpu", "original", 0.98, 0.0, {1: 0.5, 8: 0.9}, 1.0, 0.9)


def standing() -> Standing:
    points = [FAST, PLAIN, SLOW]
    return Standing.of(Budget(max_drop=0.05, min_speedup=1.2, min_size_ratio=1.0), points, front(points), [FAST])


def test_the_table_of_the_front_says_who_is_on_it_within_budget_and_a_finalist() -> None:
    found = [[row(point, standing())[key] for key in ("on front", "in budget", "finalist")] for point in (FAST, PLAIN)]

    assert found == [["yes", "yes", "yes"], ["–", "yes", "–"]]
    assert row(SLOW, standing())["in budget"] == "–"


def test_every_build_has_the_same_metrics_with_its_p50_and_standing() -> None:
    latencies = {f"{p.candidate}@{p.target}": {"1": {"p50_s": 0.002}, "8": {"p50_s": 9.0}} for p in (FAST, PLAIN)}
    fast, plain = (metrics(point, latencies, standing()) for point in (FAST, PLAIN))

    assert set(fast) == set(plain)
    assert (fast["p50_ms"], fast["on_front"], fast["within_budget"]) == (2.0, 1.0, 1.0)
    assert (plain["on_front"], plain["within_budget"]) == (0.0, 1.0)


def test_a_run_says_its_verdict_as_it_ends_and_a_caller_gets_the_facts() -> None:
    state = said("drift+damage: rows 250–500 → retrain", {"verdict": "drift+damage"})

    assert (state.type, state.message) == (StateType.COMPLETED, "drift+damage: rows 250–500 → retrain")
    assert state.data == {"verdict": "drift+damage"}


def test_a_verdict_in_words_says_what_follows() -> None:
    words = [
        monitor.in_words(VERDICT, Decision(action, "because", "abc"), None) for action in ("none", "retrain", "alert")
    ]

    assert [text.splitlines()[-1] for text in words] == ["Nothing to do: because", "Retrain: because", "Alert: because"]
    assert "[Evidently report](http://s/p)" in monitor.in_words(VERDICT, Decision("none", "", ""), "http://s/p")


def test_a_reaction_in_words_links_to_what_it_made() -> None:
    decision = Decision("retrain", "accuracy fell", "abc")
    made = react.in_words(decision, "version 2 serves", {"run_url": "http://m/r", "report_url": None})

    assert made.startswith("# Retrain: version 2 serves\n")
    assert "[run in MLflow](http://m/r)" in made
    assert "report" not in made
    assert "](" not in react.in_words(decision, "BudgetNotMet: …", {})


def test_the_reason_of_a_retrain_names_the_verdict_and_keeps_why() -> None:
    watch: Any = SimpleNamespace(verdicts=lambda: [SimpleNamespace(kind="drift+damage", digest="abc")])

    assert react.why(watch, Decision("retrain", "accuracy fell", "abc")) == "retrain after drift+damage: accuracy fell"


def test_the_gate_in_words_is_a_list_with_one_headline() -> None:
    check = gate.Check("size", 2.0, 3.0, None, True, "3.00x smaller")
    text = reporting.in_words("PASS: faster.", gate.Decision("pass", (check,), None), "http://m/r", "http://s/p")

    assert text.count("PASS") == 1
    assert "- ✓ **size**: 3.00x smaller" in text
    assert "|" not in text


def test_the_note_of_a_run_links_to_prefect_and_the_report_where_they_are() -> None:
    assert reporting.in_note("PASS.", "http://p/run", None) == "PASS.\n\n[Flow run in Prefect](http://p/run)"
    assert reporting.in_note("PASS.", None, None) == "PASS."


def verified(lost: int) -> Any:
    """What a release knows of a candidate that lost so many of the 100 rows of a class with a pipe in its name."""
    labels, right = np.arange(300) % 3, np.ones(300, bool)
    own = right.copy()
    own[np.flatnonzero(labels == 1)[:lost]] = False
    slices = compare_slices(right, own, labels, ["a", "b|c", "d"], {}, 0.95)
    return SimpleNamespace(evidence=SimpleNamespace(slices=slices))


def test_the_version_s_page_names_the_slice_that_pays_most_inside_its_table() -> None:
    ((key, value),) = register._pays(verified(30))

    assert key == "By class and slice"
    assert 'pays most is "b\\|c": 100.0 % → 70.0 %' in value
    assert "none is shown to pay" in register._pays(verified(1))[0][1]
    assert register._pays(SimpleNamespace(evidence=SimpleNamespace(slices=None))) == []


def test_the_run_gets_the_largest_drop_of_a_slice_and_the_lowest_lower_end() -> None:
    slices = verified(30).evidence.slices
    found = reporting._slice_metrics(slices)

    assert found["worst_slice_drop"] == pytest.approx(0.3)
    assert found["worst_slice_difference_low"] == slices.worst.paired.difference.low
    assert reporting._slice_metrics(None) == {}
