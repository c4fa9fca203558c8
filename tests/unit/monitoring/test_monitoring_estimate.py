"""When an estimate accuses, when it says nothing, and that its own error is known; and what a release brings for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from trimtab.candidate import Interval
from trimtab.errors import RegistryError
from trimtab.monitoring import performance_reference, profile
from trimtab.monitoring.estimate import Estimate, PastError, estimate_classes, estimate_numbers, judged, past_error
from trimtab.monitoring.metrics import find
from trimtab.monitoring.performance_reference import NONE, PerformanceReference, read_performance
from trimtab.task import CLASSIFICATION, Task

Array = np.ndarray
VERIFIED = Interval(0.9, 0.87, 0.93, 400)


def estimate(low: float, value: float, high: float) -> Estimate:
    return Estimate("not_available", "", "accuracy", "all", "CBPE", Interval(value, low, high, 200))


def classes(seed: int = 0, n: int = 500) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    output = random.dirichlet([0.3, 0.3, 0.3], n)
    return output, (np.cumsum(output, axis=1) < random.random(n)[:, None]).sum(axis=1).clip(0, 2)


def of_classes() -> PerformanceReference:
    output, label = classes()
    return performance_reference.build({}, output, label, {"odd": np.arange(500) % 2 == 1}, CLASSIFICATION)


def numbers(seed: int, n: int = 400) -> tuple[dict[str, Array], Array, Array]:
    random = np.random.default_rng(seed)
    inputs = {"input": random.normal(size=(n, 2)).astype(np.float32)}
    label = inputs["input"].sum(1, keepdims=True).astype(np.float64)
    return inputs, (label + random.normal(size=(n, 1))).astype(np.float32), label


def of_numbers() -> tuple[PerformanceReference, dict[str, Array]]:
    inputs, output, label = numbers(0)
    task = Task("regression", "rmse")
    _, columns = profile.build(inputs, output, label, task=task)
    return performance_reference.build(columns, output, label, {}, task), columns


@pytest.mark.parametrize(
    ("ends", "outside", "drifted", "past", "answer"),
    [
        ((0.70, 0.75, 0.80), None, (), None, "damage"),
        ((0.88, 0.90, 0.92), None, (), None, "ok"),
        ((0.80, 0.86, 0.92), None, (), None, "undecided"),
        ((0.70, 0.75, 0.80), None, ("input[0]",), None, "damage"),  # it can accuse …
        ((0.88, 0.90, 0.92), None, ("input[0]",), None, "cannot_tell"),  # … and not acquit
        ((0.70, 0.75, 0.80), "9 of 9 rows lie beyond", (), None, "cannot_tell"),
        ((0.70, 0.75, 0.80), None, (), PastError(3, 0.06, 0.06), "cannot_tell"),
        ((0.70, 0.75, 0.80), None, (), PastError(2, 0.06, 0.06), "damage"),  # two windows are no record
        ((0.70, 0.75, 0.80), None, (), PastError(9, 0.01, 0.04), "damage"),
    ],
)
def test_an_estimate_is_judged(
    ends: tuple[float, float, float], outside: str | None, drifted: tuple[str, ...], past: PastError | None, answer: str
) -> None:
    found = judged(estimate(*ends), VERIFIED, 0.85, outside, drifted, past)
    assert found.answer == answer
    assert (found.why != "") == (answer == "cannot_tell")
    assert found.supported == (outside is None)
    assert Estimate.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_without_a_verified_figure_there_is_nothing_to_hold_it_against() -> None:
    found = judged(estimate(0.1, 0.2, 0.3), None, None, None, (), None)
    assert found.answer == "not_available"
    assert "no accuracy was verified" in found.why


def test_the_running_error_is_of_earlier_windows() -> None:
    assert past_error([]) is None
    assert past_error([0.02, -0.04]) == PastError(2, pytest.approx(-0.01), pytest.approx(0.03))


def test_a_release_without_a_map_says_so_and_does_not_fail() -> None:
    output, _ = classes()
    for found in (
        estimate_classes(None, output, output.argmax(1), "accuracy", "all"),
        estimate_numbers(None, {}, "rmse"),
    ):
        assert (found.answer, found.why) == ("not_available", NONE)
        assert "not available: release has no calibration map" in found.in_words(None)


def test_what_the_confusion_matrix_does_not_tell_is_not_estimated_but_accuracy_is() -> None:
    output, _ = classes(1)
    found = estimate_classes(of_classes(), output, output.argmax(1), "roc_auc", "macro")
    assert (found.value, found.answer) == (None, "not_available")
    assert found.accuracy is not None
    recall = estimate_classes(of_classes(), output, output.argmax(1), "recall", "class 1")
    assert recall.value is not None
    assert recall.accuracy == found.accuracy


def test_answers_that_are_not_finite_are_left_out() -> None:
    output, _ = classes(1)
    output[:100] = np.nan
    found = estimate_classes(of_classes(), output, np.zeros(500, int), "accuracy", "all")
    assert found.value is not None
    assert found.value.n == 400
    none = estimate_classes(of_classes(), np.full((5, 3), np.nan), np.zeros(5, int), "accuracy", "all")
    assert none.why == "no answer has finite probabilities"


def test_a_regression_is_estimated_from_its_columns_and_r2_is_not() -> None:
    known, columns = of_numbers()
    watched = {name: values for name, values in columns.items() if name != "label"}
    for metric in ("rmse", "mae"):
        found = estimate_numbers(known, watched, metric)
        verified = find(known.figures, metric, "all")
        assert found.value is not None
        assert verified is not None
        assert verified.interval is not None
        assert found.value.low < verified.interval.value < found.value.high
    assert "spread of the labels" in estimate_numbers(known, watched, "r2").why
    assert estimate_numbers(known, None, "rmse").why == "inputs are not journalled"


def test_what_a_release_knows_survives_json_and_is_the_same_each_time(tmp_path: Path) -> None:
    for known in (of_classes(), of_numbers()[0]):
        text = json.dumps(known.to_json(), sort_keys=True, allow_nan=False)
        (tmp_path / "performance.json").write_text(text)
        assert read_performance(tmp_path / "performance.json") == known
    assert json.dumps(of_classes().to_json()) == json.dumps(of_classes().to_json())
    assert find(of_classes().figures, "accuracy", "slice odd") is not None


def test_a_release_of_before_has_none_and_a_broken_file_is_named(tmp_path: Path) -> None:
    assert read_performance(tmp_path / "performance.json") is None
    (tmp_path / "performance.json").write_text('{"figures": []}')
    with pytest.raises(RegistryError, match=r"performance\.json"):
        read_performance(tmp_path / "performance.json")


def test_where_no_map_can_be_fitted_the_figures_are_there_and_the_reason_is_kept() -> None:
    output, label = classes()
    known = performance_reference.build({}, output[:4], label[:4], {}, CLASSIFICATION)
    assert known.calibration is None
    assert known.without.startswith("4 held-out rows")
    assert find(known.figures, "accuracy", "all") is not None
    task = Task("regression", "rmse")
    wide = np.random.default_rng(0).normal(size=(60, 2))
    several = performance_reference.build({}, wide, wide + 1.0, {}, task)
    assert several.losses == {}
    assert "(60, 2)" in several.without
