"""Figures of a classifier besides accuracy: those of scikit-learn, and what a row adds to them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from trimtab.class_metrics import class_figure, mean_auc, row_losses
from trimtab.errors import DataError
from trimtab.task import WORST, Metric, Task

Array = np.ndarray
F1, AUC, LOSS = (Task.of(metric) for metric in ("f1", "roc_auc", "log_loss"))


def world(seed: int, classes: int, rows: int = 60) -> tuple[Array, Array]:
    """Probabilities float32 (rows, classes), some of them tied, and labels that hold every class."""
    random = np.random.default_rng(seed)
    label = np.append(np.arange(classes), random.integers(0, classes, rows - classes))
    score = random.normal(size=(rows, classes)).round(1)
    score[np.arange(rows), label] += 1
    raised = np.exp(score)
    return (raised / raised.sum(1, keepdims=True)).astype(np.float32), label


@given(seed=st.integers(0, 10**6), classes=st.integers(2, 5))
def test_they_are_those_of_scikit_learn(seed: int, classes: int) -> None:
    output, label = world(seed, classes)
    assert F1.score(output, label) == pytest.approx(f1_score(label, output.argmax(1), average="macro"))
    assert LOSS.score(output, label) == pytest.approx(-log_loss(label, output.astype(float)), rel=1e-5)
    given = output[:, 1] if classes == 2 else output.astype(np.float64) / output.astype(np.float64).sum(1)[:, None]
    expected = roc_auc_score(label, given, multi_class="ovr")
    assert AUC.score(output, label) == pytest.approx(expected, abs=2e-3 if classes == 2 else 1e-9)
    assert mean_auc(output, label)[0] == pytest.approx(AUC.score(output, label))


def test_means_over_classes_are_over_those_that_the_labels_hold() -> None:
    output, label = world(0, 4)
    some = label < 3
    three = np.arange(3)
    expected = f1_score(label[some], output[some].argmax(1), labels=three, average="macro")
    assert class_figure("f1", output[some], label[some]) == pytest.approx(expected)
    each = [roc_auc_score(label[some] == index, output[some][:, index]) for index in three]
    assert class_figure("roc_auc", output[some], label[some]) == pytest.approx(np.mean(each))


def test_one_class_alone_has_no_roc_auc() -> None:
    output, _ = world(0, 3)
    with pytest.raises(DataError, match="one class only among 60 labels"):
        AUC.score(output, np.ones(60, np.int64))


def test_a_certain_mistake_costs_much_and_not_everything() -> None:
    losses = row_losses(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([1, 1]))
    assert 30 < losses[0] < 40
    assert losses[1] == pytest.approx(np.log(2))


@pytest.mark.parametrize(
    ("metric", "before", "after", "drop", "shown", "said"),
    [
        ("f1", 0.80, 0.78, 0.02, "0.8000", "+0.0200"),
        ("roc_auc", 0.99, 0.985, 0.005, "0.9900", "+0.0050"),
        ("log_loss", -0.5, -0.55, 0.1, "0.5", "+10.00 %"),
        ("accuracy", 0.80, 0.78, 0.02, "80.00 %", "+2.00 points"),
    ],
)
def test_a_drop_is_a_difference_and_of_an_error_relative(
    metric: Metric, before: float, after: float, drop: float, shown: str, said: str
) -> None:
    task = Task.of(metric)
    assert not task.regression
    assert task.drop(before, after) == pytest.approx(drop)
    assert task.show(before) == shown
    assert task.show_drop(drop) == said


@pytest.mark.parametrize("metric", ["f1", "roc_auc", "log_loss"])
def test_answers_that_are_not_finite_are_worse_than_any_that_are(metric: Metric) -> None:
    output, label = world(1, 3)
    output[5] = np.nan
    assert Task.of(metric).score(output, label) == WORST
