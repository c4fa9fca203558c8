from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from trimtab.monitoring.profile import ColumnProfile, describe
from trimtab.monitoring.summary import ColumnSummary, summarize
from trimtab.monitoring.tails import Tail
from trimtab.monitoring.thresholds import anderson_limit, anderson_p, calibrate, score_of

Array = np.ndarray
NUMERIC = ColumnProfile("x", "numeric", 1, 0, 0.0, 1.0)
LEVEL = 2.5e-4


def summary(values: Array, column: ColumnProfile = NUMERIC, most: int = 8192) -> ColumnSummary:
    found = summarize(column, values, most)
    assert found is not None
    return found


@pytest.mark.parametrize(("statistic", "p"), [(2.492, 0.05), (3.07, 0.025), (3.857, 0.01), (5.969, 0.001)])
def test_the_tail_of_anderson_is_above_the_published_one_and_close_to_it(statistic: float, p: float) -> None:
    assert p <= anderson_p(statistic) <= 1.12 * p
    assert anderson_p(anderson_limit(p)) == pytest.approx(p)


def test_a_fitted_tail_reaches_far_beyond_its_draws() -> None:
    draws = np.random.default_rng(0).chisquare(9, 2000)
    tail = Tail.fit(draws)
    assert chi2.sf(tail.threshold(LEVEL), 9) == pytest.approx(LEVEL, rel=0.9)
    assert tail.p(tail.threshold(LEVEL)) == pytest.approx(LEVEL)
    assert tail.p(np.median(draws)) == pytest.approx(0.5, abs=0.01)
    assert tail.p(tail.threshold(0.3)) <= 0.3


def test_a_heavy_tail_is_not_taken_for_a_light_one() -> None:
    draws = np.random.default_rng(0).pareto(2.0, 2000)  # P(X > x) = (1 + x)^-2
    assert Tail.fit(draws).threshold(LEVEL) >= 0.7 * (LEVEL**-0.5 - 1)


def test_of_few_distinct_draws_none_is_above_the_threshold() -> None:
    tail = Tail.fit(np.repeat([0.0, 0.3], [1200, 800]))
    assert tail.threshold(LEVEL) > 0.3
    assert tail.p(0.3) == pytest.approx(0.4, abs=0.001)
    assert tail.p(0.0) == 1.0


@pytest.mark.parametrize("method", ["anderson", "ks", "wasserstein", "psi", "jensenshannon", "TVD"])
def test_more_rows_make_a_smaller_score_drift(method: str) -> None:
    rng = np.random.default_rng(0)
    then = summary(rng.normal(size=2000))
    limits = []
    for rows in (50, 500, 5000):
        now = summary(rng.normal(size=rows))
        limits.append(calibrate(method, then, now, score_of(method, then, now), LEVEL).limit)
    assert limits[0] > limits[1] > limits[2]


@pytest.mark.parametrize("method", ["wasserstein", "jensenshannon"])
def test_a_summary_of_many_rows_has_about_the_threshold_of_the_rows(method: str) -> None:
    rng = np.random.default_rng(0)
    then, rows = summary(rng.normal(size=2000)), rng.normal(size=8000)
    whole, part = summary(rows), summary(rows, most=2000)
    limits = [calibrate(method, then, now, 0.05, 1e-3).limit for now in (whole, part)]
    assert limits[1] == pytest.approx(limits[0], rel=0.15)


def test_an_outlier_of_a_heavy_tail_is_no_drift() -> None:
    rng = np.random.default_rng(3)
    then, now = rng.pareto(1.2, 1000), rng.pareto(1.2, 200)
    now[0] = 100 * then.max()
    found = calibrate(
        "wasserstein", summary(then), summary(now), score_of("wasserstein", summary(then), summary(now)), LEVEL
    )
    assert found.p > 0.01


def test_a_constant_column_is_no_drift_and_some_rows_of_a_new_code_are_not_yet() -> None:
    column = describe("x", np.ones(300))
    then = summary(np.ones(300), column)
    found = {}
    for new in (0, 1, 30):
        now = summary(np.r_[np.ones(200 - new), np.full(new, 7.0)], column)
        score = score_of("jensenshannon", then, now)
        found[new] = score >= calibrate("jensenshannon", then, now, score, LEVEL).limit
    assert found == {0: False, 1: False, 30: True}


def test_the_same_samples_have_the_same_threshold_and_p() -> None:
    rng = np.random.default_rng(0)
    then, now = summary(rng.normal(size=300)), summary(rng.normal(size=200))
    assert calibrate("wasserstein", then, now, 0.1, LEVEL) == calibrate("wasserstein", then, now, 0.1, LEVEL)
