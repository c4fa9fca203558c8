from __future__ import annotations

import monitoring_world as world
import numpy as np
import pytest
from scipy.stats import binomtest

from trimtab.errors import RegistryError
from trimtab.monitoring.columns import columns
from trimtab.monitoring.drift import ColumnResult, compare
from trimtab.monitoring.scores import ORDERED
from trimtab.recipe.drift import ColumnRule, Drift

Array = np.ndarray


def judged(reference: Array, current: Array, alpha: float = 0.01, rules: Drift = Drift()) -> dict[str, ColumnResult]:
    profile, columns_then = world.tabular(np.asarray(reference, float))
    now = watched(np.asarray(current, float), profile.kinds)
    return {result.name: result for result in compare(now, columns_then, profile, alpha, rules).results}


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


METHODS = ["anderson", "ks", "wasserstein", "psi", "jensenshannon", "hellinger", "TVD", "chisquare"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("rows", "windows"), [(50, 60), (400, 40)])
def test_identical_data_raise_a_false_alarm_in_at_most_alpha_of_windows(method: str, rows: int, windows: int) -> None:
    rng = np.random.default_rng(rows)
    alpha, alarms = 0.1, 0
    rules = Drift(numeric=method) if method in ORDERED else Drift(numeric=method, categorical=method)
    for _ in range(windows):
        profile, reference = world.tabular(mixed_table(rng, 200))
        results = compare(watched(mixed_table(rng, rows), profile.kinds), reference, profile, alpha, rules).results
        alarms += any(r.drifted or any(f.alert for f in r.findings) for r in results)
    assert binomtest(alarms, windows, alpha, alternative="greater").pvalue > 0.001


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_a_large_shift_and_its_p_value_agrees_with_its_threshold(method: str) -> None:
    rng = np.random.default_rng(1)
    then = rng.normal(size=(400, 1))
    results = {
        shift: judged(then, rng.normal(shift, 1, (300, 1)), rules=Drift(numeric=method))["input[0]"] for shift in (0, 1)
    }
    assert [results[shift].drifted for shift in (0, 1)] == [False, True]
    for result in results.values():
        assert result.test == method
        assert (result.p <= result.threshold) == result.drifted


def test_a_column_has_the_method_and_the_threshold_that_the_recipe_gives_it() -> None:
    rng = np.random.default_rng(2)
    then, now = rng.normal(size=(300, 2)), rng.normal(size=(300, 2))
    rules = Drift(columns={"input[1]": ColumnRule(method="wasserstein", threshold=1e-6)})
    results = judged(then, now, rules=rules)
    assert (results["input[0]"].test, results["input[0]"].drifted) == ("anderson", False)
    assert (results["input[1]"].test, results["input[1]"].drifted, results["input[1]"].limit) == (
        "wasserstein",
        True,
        1e-6,
    )


def test_a_rule_that_cannot_be_followed_is_said_and_the_column_is_tested_all_the_same() -> None:
    rng = np.random.default_rng(3)
    table = np.column_stack([rng.normal(size=200), rng.integers(0, 4, 200)])
    rules = Drift(
        columns={"input[1]": ColumnRule(method="ks"), "gone": ColumnRule(), "input[0]": ColumnRule(kind="categorical")}
    )
    results = judged(table, table, rules=rules)
    assert results["input[1]"].test == "jensenshannon"
    found = {name: [finding.detail for finding in result.findings] for name, result in results.items()}
    assert "ks is for numbers" in found["input[1]"][0]
    assert "counts in the next" in found["input[0]"][0]
    assert "no such column" in found["gone"][0]
    assert not any(finding.alert for result in results.values() for finding in result.findings)


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
    results = compare(watched(np.full((50, 1), 0.1), profile.kinds), reference, profile, 0.01).results
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
    assert not result.drifted
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
    found = {r.name: r.findings for r in compare(now, reference, profile, 0.01).results}
    assert [(f.code, f.alert) for f in found["input[1]"]] == [("missing", True)]
    assert found["input[0]"] == ()
    found = {r.name: r.findings for r in compare(now, reference, profile, 0.01, inputs_journalled=False).results}
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


def test_a_renamed_column_is_missing_and_new_and_the_two_are_connected() -> None:
    rng = np.random.default_rng(0)
    profile, reference = world.tabular(rng.normal([0, 50], 1, (300, 2)))
    table = rng.normal([0, 50], 1, (200, 2))
    now = {**watched(table[:, :1], profile.kinds), "price": table[:, 1], "other": rng.random(200)}
    found = {r.name: r for r in compare(now, reference, profile, 0.01).results}
    assert "the new column price looks like it" in found["input[1]"].findings[0].detail
    assert found["input[1]"].findings[0].alert
    assert [(f.code, f.alert) for f in found["price"].findings] == [("new_column", False)]
    assert not found["input[0]"].findings


def test_a_column_that_became_text_is_retyped_and_the_others_are_judged() -> None:
    rng = np.random.default_rng(0)
    profile, reference = world.tabular(rng.normal(size=(300, 2)))
    now = watched(rng.normal(size=(200, 2)), profile.kinds)
    now["input[1]"] = np.array(["1.5"] * 200)
    now["input[0]"] = now["input[0]"] + 3
    found = {r.name: r for r in compare(now, reference, profile, 0.01).results}
    assert [(f.code, f.alert) for f in found["input[1]"].findings] == [("retyped", True)]
    assert found["input[0]"].drifted


def test_points_in_time_are_not_tested() -> None:
    seconds = 1_700_000_000 + np.arange(300).reshape(-1, 1)
    profile, reference = world.tabular(seconds)
    results = {r.name: r for r in compare(watched(seconds + 10_000, profile.kinds), reference, profile, 0.01).results}
    assert results["input[0]"].kind == "datetime"
    assert (results["input[0]"].test, results["input[0]"].drifted, results["input[0]"].findings) == ("", False, ())


def test_iris_like_widths_in_a_tiny_window_are_no_drift() -> None:
    rng = np.random.default_rng(0)
    widths = np.round(np.r_[rng.normal(0.25, 0.1, 50), rng.normal(1.33, 0.2, 50), rng.normal(2.0, 0.3, 50)], 1)
    result = judged(widths.reshape(-1, 1), np.tile([1.4, 1.6], 4).reshape(-1, 1))["input[0]"]
    assert not result.drifted


def test_a_wider_table_of_new_columns_is_listed_and_not_without_end() -> None:
    rng = np.random.default_rng(0)
    profile, reference = world.tabular(rng.normal(size=(100, 1)))
    now = {**watched(rng.normal(size=(60, 1)), profile.kinds), **{f"x{i}": rng.random(60) for i in range(80)}}
    assert sum(r.kind == "new" for r in compare(now, reference, profile, 0.01).results) == 50
