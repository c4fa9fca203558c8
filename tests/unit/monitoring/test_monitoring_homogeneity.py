from __future__ import annotations

import numpy as np
from scipy.stats import binomtest

from trimtab.monitoring.homogeneity import homogeneity_p


def test_a_constant_column_is_no_drift() -> None:
    assert homogeneity_p(np.array(["a"] * 50), np.array(["a"] * 50), 0.001) == 1.0


def test_sparse_categories_hold_the_level_where_the_asymptotic_test_does_not_promise_to() -> None:
    rng = np.random.default_rng(0)
    shares = np.r_[0.8, np.full(20, 0.01)]
    draws = [rng.choice(21, (2, 60), p=shares).astype(str) for _ in range(400)]
    alarms = sum(homogeneity_p(a, b, 0.02) <= 0.02 for a, b in draws)
    assert binomtest(alarms, 400, 0.02, alternative="greater").pvalue > 0.001


def test_a_real_change_and_a_flood_of_new_codes_are_found_below_a_small_threshold() -> None:
    rng = np.random.default_rng(0)
    reference = rng.choice(["a", "b"], 200)
    changed = rng.choice(["a", "b"], 200, p=[0.8, 0.2])
    new = np.array([f"new{i}" for i in range(100)])
    assert homogeneity_p(reference, changed, 1e-4) <= 1e-4
    assert homogeneity_p(reference, new, 1e-4) <= 1e-4


def test_one_row_of_a_new_code_is_no_drift() -> None:
    reference = np.array(["a", "b"] * 100)
    assert homogeneity_p(reference, np.array(["a", "b"] * 50 + ["c"]), 0.001) > 0.001


def test_the_same_samples_give_the_same_p() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.choice(list("abc"), 80), rng.choice(list("abcd"), 80, p=[0.5, 0.2, 0.1, 0.2])
    assert homogeneity_p(a, b, 0.001) == homogeneity_p(a, b, 0.001)
