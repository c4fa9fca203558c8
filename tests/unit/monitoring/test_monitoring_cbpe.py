"""Performance without labels: the worked example, no bias where probabilities are right, and an interval that holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.candidate import Interval
from trimtab.monitoring import cbpe
from trimtab.monitoring.calibration import CalibrationMap, fit
from trimtab.monitoring.cbpe import estimable, estimated, expected

Array = np.ndarray
IDENTITY = CalibrationMap("temperature", 10_000, 0.0, 0.0, (), Interval(0, 0, 0, 10_000))


def sample(seed: int, n: int, classes: int = 3, sharp: float = 0.5) -> tuple[Array, Array]:
    """Perfectly calibrated probabilities, and labels drawn from them."""
    random = np.random.default_rng(seed)
    output = random.dirichlet(np.full(classes, sharp), n)
    label = (np.cumsum(output, axis=1) < random.random(n)[:, None]).sum(axis=1).clip(0, classes - 1)
    return output, label


def test_three_answers_by_hand() -> None:
    calibrated = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    hits, of_true, of_predicted = expected(calibrated, np.array([0, 1, 0]))
    assert hits == pytest.approx([1.3, 0.8])
    assert of_true == pytest.approx([1.5, 1.5])
    assert of_predicted.tolist() == [2, 1]
    [accuracy] = estimated(calibrated, np.array([0, 1, 0]), IDENTITY, [("accuracy", "all")])
    assert accuracy is not None
    assert accuracy.value == pytest.approx(0.7)
    wanted = [("precision", "class 0"), ("recall", "class 1"), ("f1", "macro")]
    precision, recall, f1 = estimated(calibrated, np.array([0, 1, 0]), IDENTITY, wanted)
    assert precision is not None
    assert precision.value == pytest.approx(1.3 / 2)
    assert recall is not None
    assert recall.value == pytest.approx(0.8 / 1.5)
    assert f1 is not None
    assert f1.value == pytest.approx((2.6 / 3.5 + 1.6 / 2.5) / 2)


def test_calibrated_probabilities_give_an_unbiased_estimate_whose_interval_holds_what_is_measured() -> None:
    off, held = [], 0
    for seed in range(60):
        output, label = sample(seed, 150)
        predicted = output.argmax(axis=1)
        [found] = estimated(output, predicted, IDENTITY, [("accuracy", "all")])
        assert found is not None
        measured = float((predicted == label).mean())
        off.append(found.value - measured)
        held += found.low <= measured <= found.high
    assert abs(np.mean(off)) < 3 * np.std(off) / np.sqrt(60)
    assert held >= 54


def test_a_map_that_few_rows_were_fitted_on_makes_the_interval_wider() -> None:
    output, _ = sample(1, 3000)
    widths = []
    for rows in (60, 5000):
        stated, label = sample(2, rows)
        [found] = estimated(output, output.argmax(axis=1), fit(stated, label), [("accuracy", "all")])
        assert found is not None
        widths.append(found.high - found.low)
    assert widths[0] > 1.5 * widths[1]


def test_more_rows_than_labels_are_drawn_for_narrow_the_interval_as_they_should(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output, _ = sample(3, 4000)
    wanted = [("accuracy", "all")]
    [scaled] = estimated(output, output.argmax(axis=1), IDENTITY, wanted)
    monkeypatch.setattr(cbpe, "DRAWN_ROWS", 4000)
    [whole] = estimated(output, output.argmax(axis=1), IDENTITY, wanted)
    assert scaled is not None
    assert whole is not None
    assert scaled.value == whole.value
    assert scaled.high - scaled.low == pytest.approx(whole.high - whole.low, rel=0.3)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(1, 40), classes=st.integers(2, 4))
def test_any_window_has_an_estimate_between_0_and_1_that_its_interval_holds(seed: int, n: int, classes: int) -> None:
    output, _ = sample(seed, n, classes)
    wanted = [("accuracy", "all"), ("f1", "micro"), ("recall", "class 0"), ("precision", "macro"), ("f1", "class 9")]
    found = estimated(output, output.argmax(axis=1), IDENTITY, wanted)
    assert found[0] == found[1]
    assert found[4] is None  # there is no such class
    assert found[1] is not None
    for one in found[:3]:
        if one is not None:  # a window of a few rows may have none of class 0
            assert 0 <= one.low <= one.value <= one.high <= 1


def test_the_same_answers_give_the_same_estimate_and_a_part_at_a_time_is_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output, _ = sample(4, 500)
    first, second = (estimated(output, output.argmax(axis=1), IDENTITY, [("f1", "macro")]) for _ in range(2))
    assert first == second
    monkeypatch.setattr(cbpe, "AT_ONCE", 70)
    [parts] = estimated(output, output.argmax(axis=1), IDENTITY, [("f1", "macro")])
    assert parts is not None
    assert first[0] is not None
    assert parts.value == pytest.approx(first[0].value)


def test_only_what_follows_from_the_confusion_matrix_is_estimable() -> None:
    assert all(estimable(metric) for metric in ("accuracy", "precision", "recall", "f1", "specificity"))
    assert not any(estimable(metric) for metric in ("roc_auc", "log_loss", "ece"))
