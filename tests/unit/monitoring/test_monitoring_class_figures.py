"""Figures of a classifier: equal to scikit-learn's, exact where they can be, undefined where they must be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, precision_recall_fscore_support, roc_auc_score

from trimtab.bins import bins_of
from trimtab.monitoring.class_figures import MOST_CLASSES, NO_LABELS, OVERALL, class_figures, slice_figures
from trimtab.monitoring.metrics import Figure, class_name, find

Array = np.ndarray


def sample(seed: int, n: int, classes: int = 3, sharp: float = 0.5) -> tuple[Array, Array]:
    """Probabilities, and labels drawn from them."""
    random = np.random.default_rng(seed)
    output = random.dirichlet(np.full(classes, sharp), n)
    label = (np.cumsum(output, axis=1) < random.random(n)[:, None]).sum(axis=1).clip(0, classes - 1)
    return output, label


def figures(output: Array, label: Array) -> tuple[Figure, ...]:
    return class_figures(output, output.argmax(axis=1), label, output.shape[1])


def value(found: tuple[Figure, ...], metric: str, of: str = "macro") -> float:
    figure = find(found, metric, of)
    assert figure is not None
    assert figure.interval is not None, figure.undefined
    assert figure.interval.low <= figure.interval.value <= figure.interval.high
    return figure.interval.value


@pytest.mark.parametrize(("n", "classes"), [(80, 2), (150, 3), (400, 7)])
def test_every_figure_is_scikit_learns(n: int, classes: int) -> None:
    output, label = sample(1, n, classes)
    found, predicted = figures(output, label), output.argmax(axis=1)
    precision, recall, f1, _ = precision_recall_fscore_support(label, predicted, labels=range(classes))
    for metric, expected in (("precision", precision), ("recall", recall), ("f1", f1)):
        assert value(found, metric) == pytest.approx(expected.mean())
        for index in range(classes):
            assert value(found, metric, class_name(index)) == pytest.approx(expected[index])
    accuracy = (predicted == label).mean()
    assert value(found, "accuracy", "all") == value(found, "f1", "micro") == pytest.approx(accuracy)
    each = [roc_auc_score(label == index, output[:, index]) for index in range(classes)]
    assert value(found, "roc_auc") == pytest.approx(np.mean(each))
    assert value(found, "roc_auc", class_name(1)) == pytest.approx(each[1])
    assert value(found, "log_loss", "all") == pytest.approx(log_loss(label, output, labels=range(classes)))
    negatives = label != 0
    assert value(found, "specificity", class_name(0)) == pytest.approx((predicted[negatives] != 0).mean())


def test_the_calibration_error_is_that_of_the_gate_by_hand() -> None:
    output, label = sample(2, 300)
    stated, right = output.max(axis=1), output.argmax(axis=1) == label
    place = bins_of(stated)
    gaps = [abs(stated[place == k].mean() - right[place == k].mean()) * (place == k).sum() for k in set(place)]
    assert value(figures(output, label), "ece", "all") == pytest.approx(sum(gaps) / 300)


def test_without_a_positive_auc_and_recall_are_undefined_and_specificity_is_there() -> None:
    random = np.random.default_rng(0)
    output = random.dirichlet([1, 1], 50)
    found = figures(output, np.zeros(50, np.int64))
    assert find(found, "roc_auc", "class 1").undefined == "no positives among 50 labels"  # type: ignore[union-attr]
    assert find(found, "recall", "class 1").undefined == "no positives among 50 labels"  # type: ignore[union-attr]
    assert find(found, "roc_auc", "class 0").undefined == "no negatives among 50 labels"  # type: ignore[union-attr]
    assert find(found, "roc_auc", "macro").undefined == "one class only among 50 labels"  # type: ignore[union-attr]
    assert find(found, "specificity", "macro").undefined == "one class only among 50 labels"  # type: ignore[union-attr]
    kept = (output.argmax(axis=1) == 0).mean()
    assert value(found, "specificity", "class 1") == pytest.approx(kept)


def test_a_class_that_is_never_predicted_has_no_precision_and_so_the_mean_has_none() -> None:
    output = np.tile([0.6, 0.4], (40, 1))
    found = figures(output, np.arange(40) % 2)
    macro = find(found, "precision", "macro")
    assert macro is not None
    assert macro.undefined == "class 1 is never predicted in 40 labelled rows"
    assert value(found, "recall", "class 1") == 0
    assert value(found, "f1", "class 1") == 0


def test_equal_scores_are_half_right_and_the_interval_says_how_little_that_is_worth() -> None:
    output = np.full((60, 2), 0.5)
    found = find(figures(output, np.arange(60) % 2), "roc_auc", "macro")
    assert found is not None
    assert found.interval is not None
    assert found.interval.value == 0.5
    assert found.interval.high - found.interval.low > 0.2


def test_a_perfect_window_does_not_claim_to_be_known_exactly() -> None:
    label = np.arange(90) % 3
    found = figures(np.eye(3)[label], label)
    for metric in ("accuracy", "precision", "recall", "f1", "roc_auc"):
        figure = find(found, metric, "all" if metric == "accuracy" else "macro")
        assert figure is not None
        assert figure.interval is not None
        assert figure.interval.value == figure.interval.high == 1
        assert figure.interval.low < 0.99


def test_no_label_is_an_answer_and_so_is_no_finite_probability() -> None:
    empty = figures(np.empty((0, 3)), np.empty(0, np.int64))
    assert [(one.metric, one.of) for one in empty] == list(OVERALL)
    assert {one.undefined for one in empty} == {NO_LABELS}
    found = class_figures(np.full((30, 2), np.nan), np.zeros(30, np.int64), np.arange(30) % 2, 2)
    assert value(found, "accuracy", "all") == 0.5
    assert find(found, "log_loss", "all").undefined == "no finite probability"  # type: ignore[union-attr]


def test_many_classes_have_no_figures_by_class_but_every_mean() -> None:
    output, label = sample(3, 600, MOST_CLASSES + 30, sharp=0.02)
    found = figures(output, label)
    assert not [one for one in found if one.of.startswith("class")]
    _, recall, f1, _ = precision_recall_fscore_support(label, output.argmax(axis=1), labels=np.unique(label))
    assert value(found, "recall") == pytest.approx(recall.mean())
    assert value(found, "f1") == pytest.approx(f1.mean())


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(25, 120))
def test_the_order_of_rows_changes_nothing(seed: int, n: int) -> None:
    output, label = sample(seed, n)
    order = np.random.default_rng(seed).permutation(n)
    for one, other in zip(figures(output, label), figures(output[order], label[order]), strict=True):
        assert (one.metric, one.of, one.undefined) == (other.metric, other.of, other.undefined)
        if one.interval is not None and other.interval is not None:
            assert one.interval.value == pytest.approx(other.interval.value)
            if one.metric not in ("log_loss",):  # whose resamples are of rows
                assert one.interval.low == pytest.approx(other.interval.low, abs=1e-9)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    shown = [("accuracy", "all"), ("f1", "class 1"), ("f1", "macro"), ("roc_auc", "macro"), ("recall", "macro")]
    large = figures(*sample(10_000, 200_000))
    held = dict.fromkeys(shown, 0)
    for seed in range(80):
        found = figures(*sample(seed, 60))
        for metric, of in shown:
            figure = find(found, metric, of)
            assert figure is not None
            assert figure.interval is not None
            held[metric, of] += figure.interval.low <= value(large, metric, of) <= figure.interval.high
    assert min(held.values()) >= 72, held


def test_a_slice_is_scored_on_its_rows_and_one_without_a_row_is_undefined() -> None:
    predicted, label = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    night = np.array([True, True, False, False])
    first, second = slice_figures(predicted, label, {"night": night, "none": np.zeros(4, bool)})
    assert (first.metric, first.of) == ("accuracy", "slice night")
    assert first.interval is not None
    assert (first.interval.value, first.interval.n) == (0.5, 2)
    assert second.undefined == NO_LABELS
