from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp, wasserstein_distance

from trimtab.monitoring.scores import anderson, binned, cuts, heaviest, ordered_score, share_scores, shares, steps
from trimtab.monitoring.thresholds import TIED

Array = np.ndarray


def two(seed: int = 0, rows: int = 300) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return np.sort(rng.normal(size=rows)), np.sort(rng.normal(0.3, 1, 2 * rows // 3))


def test_ks_and_wasserstein_are_those_of_scipy() -> None:
    then, now = two()
    assert ordered_score("ks", then, now) == pytest.approx(ks_2samp(then, now).statistic)
    assert ordered_score("wasserstein", then, now) == pytest.approx(wasserstein_distance(then, now) / then.std())


def test_shares_have_the_scores_of_their_definitions() -> None:
    then, now = np.array([[50.0, 30, 20, 0]]), np.array([[10.0, 10, 20, 10]])
    p, q = then[0] / 100, now[0] / 50
    assert share_scores("jensenshannon", then, now)[0] == pytest.approx(jensenshannon(p, q))
    assert share_scores("TVD", then, now)[0] == pytest.approx(np.abs(p - q).sum() / 2)
    assert share_scores("hellinger", then, now)[0] == pytest.approx(np.sqrt(1 - np.sqrt(p * q).sum()))
    assert share_scores("chisquare", then, now)[0] == pytest.approx(((p - q) ** 2 / (p + q)).sum())
    floored = np.where(p > 0, p, 1e-4)
    assert share_scores("psi", then, now)[0] == pytest.approx(((q - floored) * np.log(q / floored)).sum())


@pytest.mark.parametrize("method", ["psi", "jensenshannon", "hellinger", "TVD", "chisquare"])
def test_equal_shares_are_no_distance_at_any_number_of_rows(method: str) -> None:
    assert share_scores(method, np.array([3.0, 1, 0]), np.array([300.0, 100, 0])) == pytest.approx(0, abs=1e-7)


def test_anderson_by_hand_on_two_values() -> None:
    # Below the larger value F = ½ and G = ¼, so H = ⅜; half of each atom counts for the step: (0.375 + 0.625) / 2.
    _, then, now = steps(np.array([0.0, 1.0]), np.array([0.0, 1.0, 1.0, 1.0]))
    assert anderson(then, now) == pytest.approx(0.25**2 / (0.375 * 0.625) * 0.5)


def test_anderson_does_not_depend_on_the_number_of_rows_and_sees_tails_better_than_ks() -> None:
    then, now = two()
    assert ordered_score("anderson", then, np.repeat(now, 7)) == pytest.approx(ordered_score("anderson", then, now))
    assert ordered_score("anderson", then, then) == 0.0


def eigenvalues(masses: Array) -> Array:
    """Of the null distribution of anderson for values with these shares."""
    masses = (masses + 1e-6) / (masses + 1e-6).sum()
    ends = np.cumsum(masses)[:-1]
    weight = np.sqrt((masses[1:] + masses[:-1]) / 2)
    bridge = np.minimum.outer(ends, ends) - np.outer(ends, ends)
    spread = np.sqrt(ends * (1 - ends))
    return np.sort(np.linalg.eigvalsh(bridge / np.outer(spread, spread) * np.outer(weight, weight)))[::-1]


@pytest.mark.parametrize("seed", range(12))
def test_whatever_the_ties_no_eigenvalue_is_above_a_half_and_their_sum_is_one_at_most(seed: int) -> None:
    found = eigenvalues(np.random.default_rng(seed).dirichlet(np.full(2 + 3 * seed, 0.3)))
    assert found[0] == pytest.approx(0.5, rel=1e-3)
    assert found.sum() <= 1 + 1e-3


@pytest.mark.parametrize("seed", range(12))
def test_ties_below_the_share_that_counts_as_tied_are_within_the_formula(seed: int) -> None:
    """The tail's constant Π (1 − λ_j / λ_1)^-½ is below the 2 of `anderson_p`."""
    rng = np.random.default_rng(seed)
    masses = np.r_[np.full(40, 0.4 / 40), rng.dirichlet(np.full(4, 0.5)) * 0.6]
    masses = np.minimum(masses, TIED)
    rest = rng.permutation(np.r_[masses, np.full(40, (1 - masses.sum()) / 40)])
    found = eigenvalues(rest[rest > 0])
    assert np.prod((1 - found[1:] / found[0]) ** -0.5) < 2
    assert heaviest(np.cumsum(rest), np.cumsum(rest)) <= TIED + 1e-9


def test_bins_are_of_the_reference_and_hold_every_value() -> None:
    rng = np.random.default_rng(0)
    then = np.sort(rng.normal(size=1600))
    inner = cuts(then)
    assert len(inner) == 15
    counts = binned(then, inner)
    assert set(counts.values()) <= set(range(95, 106))
    far = np.sort(np.r_[-100.0, 100.0, rng.normal(size=98)])
    assert sum(binned(far, inner).values()) == 100


def test_a_zero_inflated_reference_has_fewer_bins_and_a_constant_one_a_single_one() -> None:
    values = np.sort(np.r_[np.zeros(900), np.arange(1.0, 101)])
    assert 1 <= len(cuts(values)) < 5
    assert binned(values, cuts(values))["00"] >= 900
    assert len(cuts(np.ones(50))) == 0


def test_only_categories_that_a_side_has_are_compared_in_the_order_of_their_names() -> None:
    then, now = shares({"b": 2, "a": 1, "never": 0}, {"c": 4})
    assert then.tolist() == [1, 2, 0]
    assert now.tolist() == [0, 0, 4]
