"""What MLflow and the reports folder get of a verdict: its figures by name, and a page for each revision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tasks.monitor import page_name, shown_figures
from trimtab.candidate import Interval
from trimtab.monitoring.estimate import Estimate
from trimtab.monitoring.metrics import Figure
from trimtab.monitoring.performance import Performance
from trimtab.monitoring.verdict import Verdict

ACCURACY = Interval(0.9, 0.85, 0.94, 200)
VERDICT = Verdict(
    kind="healthy",
    lo=0,
    hi=200,
    version="3",
    rows=200,
    columns=(),
    performance=Performance("ok", ACCURACY, ACCURACY, 0.85, 200, 200, 0),
    errors=0,
    other_versions=0,
    duplicates=0,
    unknown_labels=0,
    reasons=(),
    figures=(
        Figure("accuracy", "all", ACCURACY),
        Figure("f1", "macro", replace(ACCURACY, value=0.8)),
        Figure("f1", "class 0", ACCURACY),
        Figure("roc_auc", "macro", None, "one class only among 9 labels"),
    ),
)


def test_means_over_classes_are_metrics_and_single_classes_and_undefined_ones_are_not() -> None:
    assert shown_figures(VERDICT) == {"monitoring_accuracy": 0.9, "monitoring_f1": 0.8}


@pytest.mark.parametrize(("answer", "error"), [("ok", pytest.approx(0.05)), ("too_few_labels", None)])
def test_an_estimate_is_one_too_and_its_error_when_labels_are_enough(answer: Any, error: Any) -> None:
    estimate = Estimate("ok", "", "accuracy", "all", "CBPE", Interval(0.95, 0.9, 1.0, 200))
    found = shown_figures(replace(VERDICT, estimated=estimate, performance=replace(VERDICT.performance, answer=answer)))
    assert found["monitoring_accuracy_estimated"] == 0.95
    assert found.get("monitoring_estimate_error") == error


def test_a_verdict_that_replaces_another_has_a_page_of_its_own() -> None:
    assert page_name(VERDICT) == "window-0-200.html"
    assert page_name(replace(VERDICT, revision=2)) == "window-0-200-2.html"
