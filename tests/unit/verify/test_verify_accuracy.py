"""Accuracy: Clopper-Pearson against figures of the literature, and a candidate against the original."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from trimtab.errors import DataError
from trimtab.verify.accuracy import Paired, exact, paired


@given(
    st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.9, 0.95, 0.99])
)
def test_a_proportion_has_the_interval_that_scipy_calls_exact(pair: tuple[int, int], confidence: float) -> None:
    hits, n = pair
    ours = exact(hits, n, confidence)
    theirs = binomtest(hits, n).proportion_ci(confidence, method="exact")
    assert ours.low == pytest.approx(theirs.low, abs=1e-9)
    assert ours.high == pytest.approx(theirs.high, abs=1e-9)
    assert (ours.value, ours.n, ours.confidence) == (hits / n, n, confidence)


def test_clopper_pearson_covers_every_truth() -> None:
    n, intervals = 40, [exact(hits, 40, 0.95) for hits in range(41)]
    for p in np.linspace(0.001, 0.999, 200):
        covered = sum(binom.pmf(hits, n, p) for hits, one in enumerate(intervals) if one.low <= p <= one.high)
        assert covered >= 0.95


def test_lost_and_gained_rows_are_told_apart() -> None:
    original = np.array([1, 1, 1, 0, 0, 1, 1, 1], bool)
    candidate = np.array([1, 0, 0, 1, 0, 1, 1, 1], bool)
    result = paired(original, candidate, 0.95)
    assert (result.lost, result.gained) == (2, 1)
    assert (result.original.value, result.candidate.value, result.difference.value) == (6 / 8, 5 / 8, -1 / 8)
    assert result.difference.low < -1 / 8 < result.difference.high
    assert result.mcnemar_p == pytest.approx(binomtest(2, 3).pvalue)


def test_the_same_answers_are_no_evidence_of_a_difference_but_not_of_equality_either() -> None:
    same = np.ones(500, bool)
    result = paired(same, same, 0.95)
    assert result.mcnemar_p == 1.0
    assert result.difference.value == 0
    assert -0.009 < result.difference.low < -0.007


def test_more_confidence_makes_a_wider_interval() -> None:
    original, candidate = np.ones(300, bool), np.ones(300, bool)
    candidate[:3] = False
    narrow, wide = (paired(original, candidate, level).difference for level in (0.9, 0.99))
    assert wide.low < narrow.low
    assert wide.high > narrow.high


def test_a_comparison_survives_json() -> None:
    result = paired(np.array([1, 0, 1], bool), np.array([1, 1, 0], bool), 0.95)
    assert Paired.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_different_rows_are_refused() -> None:
    with pytest.raises(DataError, match="not the same rows"):
        paired(np.ones(3, bool), np.ones(4, bool), 0.95)
    with pytest.raises(DataError, match="not the same rows"):
        paired(np.ones(0, bool), np.ones(0, bool), 0.95)
    with pytest.raises(DataError, match="no proportion"):
        exact(0, 0, 0.95)
