"""Where an estimate may speak: inputs inside what the release was verified on, and how rarely others are suspected."""

from __future__ import annotations

import monitoring_world as world
import numpy as np
import pytest

from trimtab.monitoring.drift import ColumnResult
from trimtab.monitoring.profile import Profile
from trimtab.monitoring.support import drifted_inputs, outside, overlap

Array = np.ndarray
LEVEL = 0.01


def table(seed: int, n: int, columns: int = 3) -> Array:
    return np.random.default_rng(seed).normal(size=(n, columns)).astype(np.float32)


def result(name: str, drifted: bool) -> ColumnResult:
    return ColumnResult(name, "numeric", "ks", 0.5, LEVEL, drifted, 100, "", ())


def asked(values: Array, drifted: tuple[str, ...] = (), n: int = 300) -> str | None:
    profile, reference = world.tabular(table(0, n, values.shape[1]))
    window = {f"input[{i}]": values[:, i].astype(np.float64) for i in range(values.shape[1])}
    results = [result(column.name, column.name in drifted) for column in profile.columns]
    return outside(window, reference, profile, results, LEVEL)


def test_overlap_by_hand() -> None:
    reference = np.arange(1000.0)
    assert overlap(reference, reference) == pytest.approx(1, abs=0.01)
    assert overlap(np.arange(500.0), reference) == pytest.approx(0.5, abs=0.02)
    assert overlap(np.full(50, 3.0), reference) == pytest.approx(1 / 20, abs=0.005)
    assert overlap(np.full(50, 1e9), reference) == pytest.approx(1 / 20, abs=0.005)


def test_rows_like_the_reference_are_rarely_called_outside_of_it_however_many_columns() -> None:
    outsiders = sum(asked(table(seed, 200, 20)) is not None for seed in range(1, 41))
    assert outsiders <= 1


def test_rows_beyond_the_range_are_counted_by_row_and_named_by_column() -> None:
    values = table(1, 200)
    values[:60, 2] = 9.0
    said = asked(values)
    assert said is not None
    assert said.startswith("6")  # 60, and perhaps one more
    assert "of 200 rows lie beyond the reference's range, most of them in input[2]" in said
    values[12:60, 2] = 0.0
    assert asked(values) is None


def test_categories_never_seen_are_beyond_the_range() -> None:
    codes = np.random.default_rng(2).integers(0, 5, (300, 1))
    profile, reference = world.tabular(codes)
    seen, unseen = ({"input[0]": values.astype(float)} for values in (np.arange(100) % 5, np.arange(100) % 9))
    assert outside(seen, reference, profile, [], LEVEL) is None
    assert "most of them in input[0]" in (outside(unseen, reference, profile, [], LEVEL) or "")


def test_a_drifted_column_that_crowds_into_a_corner_has_left_and_one_that_only_shifts_has_not() -> None:
    corner, shifted = table(3, 200), table(3, 200)
    corner[:, 1] = np.random.default_rng(4).uniform(1.9, 2.1, 200)
    shifted[:, 1] += 0.8
    assert "input[1] has moved to where" in (asked(corner, ("input[1]",)) or "")
    assert asked(corner) is None  # where it is not said to have drifted
    assert asked(shifted, ("input[1]",)) is None


def test_answers_are_no_inputs_and_a_window_without_inputs_is_not_outside() -> None:
    profile, reference = world.release()
    results = [result(column.name, True) for column in profile.columns]
    assert drifted_inputs(profile, results) == [c.name for c in profile.columns if c.name.startswith("input")]
    answers = {"confidence": np.full(50, 5.0), "entropy": np.full(50, 99.0), "predicted": np.zeros(50)}
    assert outside(answers, reference, profile, results, LEVEL) is None


def test_values_that_are_not_finite_are_neither_inside_nor_outside() -> None:
    values = table(5, 200)
    values[:100, 0] = np.nan
    values[100:150, 1] = np.inf
    assert asked(values) is None


def test_a_profile_without_inputs_has_no_support_to_leave() -> None:
    profile, reference = world.release()
    bare = Profile(profile.n, profile.classes, {}, profile.columns[-3:], profile.accuracy)
    assert outside({}, reference, bare, [], LEVEL) is None
