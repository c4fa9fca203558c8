from __future__ import annotations

import monitoring_world as world
import numpy as np
import pytest
from scipy.stats import binomtest

from trimtab.errors import RegistryError
from trimtab.monitoring import drift
from trimtab.monitoring.columns import columns
from trimtab.monitoring.drift import ColumnResult, compare
from trimtab.monitoring.frames import frames

Array = np.ndarray


def judged(reference: Array, current: Array, alpha: float = 0.01) -> dict[str, ColumnResult]:
    profile, columns_then = world.tabular(np.asarray(reference, float))
    now = watched(np.asarray(current, float), profile.kinds)
    return {result.name: result for result in compare(now, columns_then, profile, alpha)}


def watched(table: Array, kinds: dict) -> dict[str, Array]:
    output = np.tile([0.9, 0.1], (len(table), 1))
    return columns({"input": table}, output, output.argmax(axis=1), output.max(axis=1), kinds)


def mixed_table(rng: np.random.Generator, n: int) -> Array:
    base = rng.normal(size=n)
    table = np.column_stack(
        [base, 0.8 * base + 0.6 * rng.normal(size=n), rng.poisson(2, n), rng.random(n) < 0.05, rng.random(n)]
    )
    table[rng.random(n) < 0.03, 4] = np.nan
    return table


@pytest.mark.parametrize(("rows", "windows"), [(50, 120), (200, 80), (1000, 30)])
def test_identical_data_raise_a_false_alarm_in_at_most_alpha_of_windows(
    rows: int, windows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift, "evidently_p_values", world.own_p_values)
    rng = np.random.default_rng(rows)
    alpha, alarms = 0.05, 0
    for _ in range(windows):
        profile, reference = world.tabular(mixed_table(rng, 200))
        results = compare(watched(mixed_table(rng, rows), profile.kinds), reference, profile, alpha)
        alarms += any(r.drifted or any(f.alert for f in r.findings) for r in results)
    assert binomtest(alarms, windows, alpha, alternative="greater").pvalue > 0.001


def test_evidently_gives_the_p_values_that_scipy_gives() -> None:
    rng = np.random.default_rng(0)
    profile, reference = world.tabular(mixed_table(rng, 200))
    now = watched(mixed_table(rng, 150) + 0.3, profile.kinds)
    expected = world.own_p_values(frames(now, reference, profile, 0.01))
    got = {result.name: result.p for result in compare(now, reference, profile, 0.01)}
    assert got == pytest.approx(expected)
    assert min(expected.values()) < 1e-3


def test_only_the_column_that_moved_is_called_drifted_and_the_change_is_said() -> None:
    rng = np.random.default_rng(0)
    now = rng.normal([0, 1, 0], size=(200, 3))
    results = judged(rng.normal(size=(300, 3)), now)
    assert [name for name, result in results.items() if result.drifted] == ["input[1]"]
    assert results["input[1]"].change.startswith("median ")
    assert results["input[0]"].threshold == pytest.approx(0.01 / (2 * 6))


def test_an_all_null_column_is_no_data_and_the_others_are_judged() -> None:
    rng = np.random.default_rng(0)
    now = np.column_stack([rng.normal(size=100) + 3, np.full(100, np.nan)])
    results = judged(rng.normal(size=(100, 2)), now)
    finding = results["input[1]"].findings[0]
    assert (finding.code, finding.alert) == ("no_data", True)
    assert results["input[1]"].p is None
    assert results["input[0]"].drifted


def test_five_rows_of_numbers_and_five_nulls_do_not_stop_the_report() -> None:
    then = np.column_stack([np.arange(1.0, 6), np.arange(1.0, 6)])
    now = np.column_stack([np.arange(1.0, 6), np.full(5, np.nan)])
    results = judged(then, now)
    assert results["input[0]"].p == 1.0
    assert results["input[1]"].findings[0].code == "no_data"


def test_a_constant_column_that_stays_constant_is_no_drift() -> None:
    results = judged(np.ones((50, 1)), np.ones((50, 1)))
    assert all(result.p == 1.0 and not result.drifted for result in results.values())


def test_a_constant_sent_in_double_precision_is_still_the_same_constant() -> None:
    profile, reference = world.tabular(np.full((50, 1), 0.1, np.float32))
    results = compare(watched(np.full((50, 1), 0.1), profile.kinds), reference, profile, 0.01)
    assert results[0].p == 1.0
    assert results[0].findings == ()


def test_a_constant_column_that_starts_to_vary_is_drift() -> None:
    result = judged(np.ones((50, 1)), np.random.default_rng(0).normal(size=(50, 1)))["input[0]"]
    assert result.drifted
    assert result.findings[0].code == "new_category"


def test_null_current_and_an_unseen_code_in_two_rows_are_findings() -> None:
    then = np.column_stack([np.tile(np.arange(1, 6), 1000), np.tile([1, 0, 1, 0, 0], 1000)])
    now = np.array([[np.nan, 14], [np.nan, np.nan]])
    results = judged(then, now)
    assert results["input[0]"].findings[0].code == "no_data"
    codes = {finding.code: finding.detail for finding in results["input[1]"].findings}
    assert set(codes) == {"not_finite", "new_category"}
    assert "14" in codes["new_category"]


def test_infinity_is_counted_apart_and_the_finite_values_are_tested() -> None:
    result = judged(np.array([[-2.0], [-1.0]]), np.array([[-2.0], [np.inf]]))["input[0]"]
    assert result.n == 1
    assert result.p == 1.0
    assert "1 infinite of 2" in result.findings[0].detail


def test_one_broken_row_is_told_but_many_are_a_data_error() -> None:
    rng = np.random.default_rng(0)
    then, now = rng.normal(size=(200, 1)), rng.normal(size=(200, 1))
    now[0] = np.nan
    assert [finding.alert for finding in judged(then, now)["input[0]"].findings] == [False]
    now[:40] = np.inf
    assert [finding.alert for finding in judged(then, now)["input[0]"].findings] == [True]


def test_as_many_nulls_as_the_reference_had_are_no_data_error() -> None:
    rng = np.random.default_rng(0)
    then, now = rng.normal(size=(200, 1)), rng.normal(size=(200, 1))
    then[:40], now[:44] = np.nan, np.nan
    assert [finding.alert for finding in judged(then, now)["input[0]"].findings] == [False]


def test_a_missing_column_is_a_finding_and_an_unjournalled_one_is_not_an_alert() -> None:
    rng = np.random.default_rng(0)
    profile, reference = world.tabular(rng.normal(size=(60, 2)))
    now = watched(rng.normal(size=(60, 1)), profile.kinds)
    found = {r.name: r.findings for r in compare(now, reference, profile, 0.01)}
    assert [(f.code, f.alert) for f in found["input[1]"]] == [("missing", True)]
    assert found["input[0]"] == ()
    found = {r.name: r.findings for r in compare(now, reference, profile, 0.01, inputs_journalled=False)}
    assert [(f.code, f.alert) for f in found["input[1]"]] == [("not_journalled", False)]


def test_a_reference_without_data_in_a_column_is_said_and_not_tested() -> None:
    rng = np.random.default_rng(0)
    then = np.column_stack([np.full(60, np.nan), rng.normal(size=60)])
    results = judged(then, rng.normal(size=(60, 2)))
    assert results["input[0]"].p is None
    assert [(f.code, f.alert) for f in results["input[0]"].findings] == [("no_reference", False)]
    assert results["input[1]"].p is not None


def test_a_reference_that_lost_a_column_is_refused() -> None:
    profile, reference = world.tabular(np.random.default_rng(0).normal(size=(60, 1)))
    now = watched(np.ones((60, 1)), profile.kinds)
    with pytest.raises(RegistryError, match=r"input\[0\]"):
        compare(now, {"label": reference["label"]}, profile, 0.01)
