"""The exact interval of a paired difference: coverage by enumeration, order, symmetry, figures to check by hand."""

import numpy as np
import pytest
from scipy.stats import multinomial

from trimtab.verify.trinomial import difference_limits, lower_limit, score

ROUNDING = 1e-9


def every_result(n: int) -> np.ndarray:
    return np.array([(lost, gained) for lost in range(n + 1) for gained in range(n + 1 - lost)])


def all_lower_limits(n: int, tail: float) -> np.ndarray:
    return np.array([lower_limit(int(lost), int(gained), n, tail) for lost, gained in every_result(n)])


def miss_chance(n: int, limits: np.ndarray, results: np.ndarray, p_lost: float, p_gained: float) -> float:
    """Chance that the lower limit lies above the true difference, by enumeration."""
    rest = n - results.sum(axis=1)
    chance = multinomial.pmf(np.column_stack([results, rest]), n, [p_lost, p_gained, 1 - p_lost - p_gained])
    return float(chance[limits > p_gained - p_lost].sum())


@pytest.mark.parametrize(("n", "tail"), [(1, 0.025), (4, 0.05), (9, 0.025), (12, 0.005)])
def test_a_lower_limit_is_too_high_no_more_often_than_promised_whatever_the_rates(n: int, tail: float) -> None:
    results, limits = every_result(n), all_lower_limits(n, tail)
    grid = np.concatenate([[0.0, 1e-3, 0.01], np.linspace(0.02, 1.0, 50)])
    worst = max(miss_chance(n, limits, results, a, b) for a in grid for b in grid if a + b <= 1)
    assert worst <= tail + ROUNDING
    assert worst > 0.5 * tail, "so wide that it would be no use"


@pytest.mark.parametrize("n", [6, 10])
def test_coverage_holds_just_below_each_limit_where_it_is_tightest(n: int) -> None:
    """The chance of a miss jumps where the true difference passes a limit: these are the worst differences."""
    tail = 0.025
    results, limits = every_result(n), all_lower_limits(n, tail)
    rates = np.linspace(0, 1, 41)
    pairs = [(p, p + d - 1e-10) for d in np.unique(limits) for p in rates if p + d >= 1e-10 and 2 * p + d <= 1]
    assert max(miss_chance(n, limits, results, *pair) for pair in pairs) <= tail + ROUNDING


@pytest.mark.parametrize(("p_lost", "p_gained"), [(0.004, 0.002), (0.003, 0.0)])
def test_coverage_holds_at_the_size_of_a_real_gate(p_lost: float, p_gained: float) -> None:
    n, tail = 400, 0.025
    results = np.array([(lost, gained) for lost in range(9) for gained in range(11 if p_gained else 1)])
    limits = np.array([lower_limit(int(a), int(b), n, tail) for a, b in results])
    rest = n - results.sum(axis=1)
    chance = multinomial.pmf(np.column_stack([results, rest]), n, [p_lost, p_gained, 1 - p_lost - p_gained])
    missed = chance[limits > p_gained - p_lost].sum()
    assert missed + (1 - chance.sum()) <= tail  # whatever was not enumerated counts as missed


def test_limits_keep_the_order_of_results() -> None:
    n, tail = 10, 0.025
    limit = {tuple(map(int, r)): low for r, low in zip(every_result(n), all_lower_limits(n, tail), strict=True)}
    for lost, gained in limit:
        if (lost + 1, gained) in limit:
            assert limit[lost + 1, gained] <= limit[lost, gained] + ROUNDING
        if (lost, gained + 1) in limit:
            assert limit[lost, gained + 1] >= limit[lost, gained] - ROUNDING


def test_the_score_statistic_crosses_each_level_once_so_that_sets_of_better_results_are_nested() -> None:
    n = 15
    differences = np.linspace(-0.999, 0.999, 400)
    for lost, gained in every_result(n):
        values = np.array([float(score(int(lost), int(gained), n, d)) for d in differences])
        for z in (1.28, 1.96, 2.6):
            above = values >= z
            assert not (above[1:] & ~above[:-1]).any(), (lost, gained, z)


def test_swapping_the_models_mirrors_the_interval() -> None:
    low, high = difference_limits(4, 2, 500, 0.95)
    assert difference_limits(2, 4, 500, 0.95) == (-high, -low)


def test_without_any_difference_the_interval_is_the_rule_of_three_and_not_zero_wide() -> None:
    low, high = difference_limits(0, 0, 500, 0.95)
    rule = 1 - 0.025 ** (1 / 500)
    assert rule <= high <= 1.05 * rule
    assert low == -high


def test_it_is_tighter_than_two_clopper_pearson_limits_joined_by_bonferroni() -> None:
    low, high = difference_limits(4, 2, 500, 0.95)
    assert low == pytest.approx(-0.0166, abs=2e-4)
    assert high == pytest.approx(0.0073, abs=2e-4)  # Bonferroni: -0.0221 to 0.0146


@pytest.mark.parametrize(("lost", "gained", "n"), [(1, 0, 1), (0, 1, 1), (10, 0, 10), (0, 10, 10), (5, 5, 10)])
def test_extreme_results_give_an_interval_around_the_point_inside_minus_one_to_one(
    lost: int, gained: int, n: int
) -> None:
    low, high = difference_limits(lost, gained, n, 0.95)
    assert -1 <= low <= (gained - lost) / n <= high <= 1
