"""Paired classifiers by F1, ROC AUC and log loss: scikit-learn's values, intervals, the gate and the report."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from trimtab.candidate import Latency
from trimtab.class_metrics import class_figure
from trimtab.errors import DataError
from trimtab.recipe.schema import Budget
from trimtab.task import Metric
from trimtab.verify import report
from trimtab.verify.accuracy import paired
from trimtab.verify.class_numbers import _drawn_f1, paired_classes
from trimtab.verify.evidence import Evidence
from trimtab.verify.gate import decide
from trimtab.verify.numbers import PairedNumbers, paired_from_json
from trimtab.verify.parity import Parity

Array = np.ndarray
METRICS: tuple[Metric, ...] = ("f1", "roc_auc", "log_loss")


def world(n: int = 300, noise: float = 0.0, worse: float = 0.0, seed: int = 3) -> tuple[Array, Array, Array]:
    """Probabilities (n, 3) of an original and a candidate, and labels of three classes of unequal size.

    Args:
        noise: added to the candidate's logits. worse: taken from its logit of the true class.
    """
    random = np.random.default_rng(seed)
    label = random.choice(3, n, p=[0.6, 0.3, 0.1])
    logits = random.normal(size=(n, 3))
    logits[np.arange(n), label] += 1.6
    other = logits + noise * random.normal(size=(n, 3))
    other[np.arange(n), label] -= worse
    return soft(logits), soft(other), label


def soft(logits: Array) -> Array:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


@pytest.mark.parametrize("metric", METRICS)
def test_the_figures_are_those_of_each_model_and_the_interval_is_about_the_difference(metric: Metric) -> None:
    original, candidate, labels = world(noise=0.5)
    found = paired_classes(metric, original, candidate, labels, 0.95)
    before, after = (class_figure(metric, one, labels) for one in (original, candidate))
    assert found.original.value == pytest.approx(before)
    assert found.candidate.value == pytest.approx(after)
    assert found.difference.value == pytest.approx(1 - after / before if metric == "log_loss" else after - before)
    for interval in (found.original, found.candidate, found.difference):
        assert interval.low < interval.value < interval.high
    assert (found.lost, found.gained) == (
        int(((original.argmax(1) == labels) & (candidate.argmax(1) != labels)).sum()),
        int(((original.argmax(1) != labels) & (candidate.argmax(1) == labels)).sum()),
    )


@pytest.mark.parametrize("metric", METRICS)
def test_a_worse_candidate_has_its_whole_interval_below_zero(metric: Metric) -> None:
    found = paired_classes(metric, *world(worse=1.0), 0.95)
    assert found.difference.low < found.difference.value < found.difference.high < 0


@pytest.mark.parametrize("metric", METRICS)
def test_pairing_makes_the_interval_narrower_than_that_of_either_model(metric: Metric) -> None:
    found = paired_classes(metric, *world(noise=0.1), 0.95)
    size = found.original.value if metric == "log_loss" else 1.0
    assert found.difference.high - found.difference.low < (found.original.high - found.original.low) / size / 1.5


@pytest.mark.parametrize("metric", METRICS)
def test_equal_answers_give_equal_intervals_to_the_last_bit(metric: Metric) -> None:
    one, other = (paired_classes(metric, *world(noise=0.3), 0.95) for _ in range(2))
    assert one == other
    assert paired_from_json(json.loads(json.dumps(one.to_json()))) == one


def test_two_models_that_decide_alike_on_few_rows_are_not_known_to_decide_alike_on_all() -> None:
    original, _, labels = world(40)
    few = paired_classes("f1", original, original, labels, 0.95).difference
    original, _, labels = world(4000)
    many = paired_classes("f1", original, original, labels, 0.95).difference
    assert few.value == many.value == 0
    assert few.low < -0.01 < 0.01 < few.high
    assert -0.002 < many.low < 0 < many.high < 0.002


def test_what_is_drawn_of_f1_is_the_table_of_both_decisions() -> None:
    """With many draws the mean is the figure itself, and the spread that of rows drawn with replacement."""
    original, candidate, labels = world(2000, noise=0.5)
    drawn = np.concatenate(list(_drawn_f1(labels, original.argmax(1), candidate.argmax(1), 2000)))
    assert drawn.shape == (2000, 2)
    random = np.random.default_rng(0)
    again = []
    for _ in range(300):
        rows = random.integers(0, 2000, 2000)
        again.append([f1_score(labels[rows], one[rows].argmax(1), average="macro") for one in (original, candidate)])
    assert drawn.mean(0) == pytest.approx(np.mean(again, axis=0), abs=3e-3)
    spreads = [np.std(np.diff(np.array(one), axis=1)) for one in (drawn, again)]
    assert spreads[0] == pytest.approx(spreads[1], rel=0.15)


def test_the_interval_of_roc_auc_is_that_of_rows_drawn_with_replacement() -> None:
    original, candidate, labels = world(600, noise=0.5)
    found = paired_classes("roc_auc", original, candidate, labels, 0.9).difference
    random, again = np.random.default_rng(0), []
    for _ in range(400):
        rows = random.integers(0, 600, 600)
        figures = [
            np.mean([roc_auc_score(labels[rows] == index, one[rows][:, index]) for index in range(3)])
            for one in (original, candidate)
        ]
        again.append(figures[1] - figures[0])
    low, high = np.quantile(again, [0.05, 0.95])
    assert found.low == pytest.approx(low, abs=0.2 * (high - low))
    assert found.high == pytest.approx(high, abs=0.2 * (high - low))


@pytest.mark.parametrize("metric", METRICS)
def test_a_class_without_rows_and_decisions_for_it_are_no_trouble(metric: Metric) -> None:
    original, candidate, labels = world(noise=1.0)
    some = labels < 2
    found = paired_classes(metric, original[some], candidate[some], labels[some], 0.95)
    assert np.isfinite([found.difference.low, found.difference.high]).all()
    assert found.candidate.value == pytest.approx(class_figure(metric, candidate[some], labels[some]))


def test_too_few_rows_and_one_class_alone_are_refused() -> None:
    with pytest.raises(DataError, match="19 rows, a bootstrap wants 20"):
        paired_classes("f1", *(part[:19] for part in world()), 0.95)
    original, candidate, labels = world()
    with pytest.raises(DataError, match="one class only among 300 labels"):
        paired_classes("roc_auc", original, candidate, np.zeros_like(labels), 0.95)


def evidence(metric: Metric, **change: float) -> tuple[Evidence, Array]:
    from trimtab.candidate import Interval

    original, candidate, labels = world(**change)  # type: ignore[arg-type]
    share = Interval(0.0, 0.0, 0.01, len(labels), 0.95)
    parity = Parity(len(labels), None, 0.1, 0.1, share, ((0, (0.5, 0.5), (0.4, 0.6)),), ())
    latency = Latency(1, 1, 1e-4, 2e-4, 100, 3.0, 2.9, 3.1, 5)
    gate = paired_classes(metric, original, candidate, labels, 0.95)
    right = [one.argmax(1) == labels for one in (original, candidate)]
    found = Evidence({"gate": gate}, parity, {1: latency}, {1: 0.02}, 10, 30, accuracy=paired(right[0], right[1], 0.95))
    return found, labels


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("worse", "answer"), [(0.0, "pass"), (1.5, "fail")])
def test_the_gate_decides_by_the_metric(metric: Metric, worse: float, answer: str) -> None:
    found, _ = evidence(metric, noise=0.05, worse=worse)
    decision = decide(found, Budget(max_drop=0.05, max_disagreement=0.5), 0.95)
    assert decision.answer == answer
    first = decision.checks[0]
    names = {"f1": "macro F1", "roc_auc": "ROC AUC", "log_loss": "log loss"}
    assert first.name == f"{names[metric]} on gate, against the original"
    assert ("% worse" in first.reason) is (metric == "log_loss")
    assert "decisions lost" in first.reason
    assert not [check for check in decision.checks if "accuracy" in check.name]


def test_too_few_rows_leave_it_undecided_with_how_many_would_do() -> None:
    found, _ = evidence("f1", n=40, noise=0.4)
    decision = decide(found, Budget(max_drop=0.05, max_disagreement=0.5), 0.95)
    assert decision.answer == "undecided"
    assert decision.needed_rows


@pytest.mark.parametrize("metric", METRICS)
def test_the_report_shows_the_metric_and_accuracy_beside_it(metric: Metric) -> None:
    found, labels = evidence(metric, noise=0.05)
    matrix = np.diag(np.bincount(labels))
    meta: Any = {
        "budget": Budget(max_drop=0.05, max_disagreement=0.5),
        **dict.fromkeys(("candidate", "label", "target", "precision"), "x"),
        "labels": ["a", "b", "c"],
        "confusion_before": matrix,
        "confusion_after": matrix,
        "seen": None,
        "lineage": [],
        "environment": {},
    }
    decision = decide(found, meta["budget"], 0.95)
    page = report.render("t", found, decision, [], [], meta)
    name = found.paired["gate"].name
    assert f"{name[0].upper()}{name[1:]}, paired with the original" in page
    assert "by paired bootstrap" in page
    assert "Accuracy on the same rows, which does not decide" in page
    assert "Confusion matrix" in page
    assert "McNemar" not in page
    assert f"{name} on gate" in report.sentence(found, decision)
    again = Evidence.from_json(json.loads(json.dumps(found.to_json())))
    assert again == found
    assert isinstance(again.paired["gate"], PairedNumbers)
    assert report.task_of(again).metric == metric
