"""The metrics of a regression, and what a drop of each means."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from trimtab.errors import DataError
from trimtab.task import CLASSIFICATION, Task

RMSE, MAE, R2 = (Task("regression", metric) for metric in ("rmse", "mae", "r2"))


@given(seed=st.integers(0, 10**6), outputs=st.integers(1, 3), offset=st.sampled_from([0.0, 1e4]))
def test_the_metrics_are_those_of_scikit_learn(seed: int, outputs: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.normal(size=(40, outputs)) * 3 + offset).astype(np.float32)
    answers = (labels + rng.normal(size=labels.shape)).astype(np.float32)

    assert MAE.score(answers, labels) == pytest.approx(-mean_absolute_error(labels, answers), rel=1e-5)
    assert R2.score(answers, labels) == pytest.approx(r2_score(labels, answers), rel=1e-5, abs=1e-5)
    squared = np.mean(np.square(root_mean_squared_error(labels, answers, multioutput="raw_values").astype(float)))
    assert RMSE.score(answers, labels) == pytest.approx(-np.sqrt(squared), rel=1e-5)


def test_a_drop_of_an_error_is_relative_and_of_r2_a_difference() -> None:
    assert RMSE.drop(-2.0, -2.1) == pytest.approx(0.05)
    assert R2.drop(0.80, 0.78) == pytest.approx(0.02)
    assert CLASSIFICATION.drop(0.9, 0.95) == pytest.approx(-0.05)


def test_an_original_without_error_has_no_relative_drop() -> None:
    with pytest.raises(DataError, match="RMSE is 0"):
        RMSE.drop(0.0, -1.0)


def test_answers_that_are_not_finite_are_worse_than_any_that_are() -> None:
    labels = np.arange(9.0).reshape(-1, 1)
    bad = labels.copy()
    bad[3] = np.nan
    assert R2.score(bad, labels) < R2.score(labels + 1e9, labels)
    assert RMSE.drop(-1.0, RMSE.score(bad, labels)) > 1e30


def test_answers_of_another_width_than_the_labels_are_refused_not_broadcast() -> None:
    with pytest.raises(DataError, match=r"\(9, 1\).*\(9, 2\)"):
        RMSE.score(np.zeros((9, 1)), np.zeros((9, 2)))
