from __future__ import annotations

import json
from pathlib import Path

import monitoring_world as world
import numpy as np
import pytest

from trimtab.candidate import Interval
from trimtab.errors import DataError, RegistryError
from trimtab.monitoring.profile import Profile, build, read_reference, reference_parquet


def test_kinds_are_decided_from_the_reference() -> None:
    rng = np.random.default_rng(0)
    codes, bits = rng.integers(0, 6, 200), rng.integers(0, 2, 200)
    table = np.column_stack([rng.normal(size=200), codes, bits, np.full(200, 7.5), np.full(200, np.nan)])
    profile, _ = world.tabular(table)
    kinds = {column.name: column.kind for column in profile.columns}
    assert [kinds[f"input[{i}]"] for i in range(5)] == ["numeric", "categorical", "boolean", "constant", "empty"]
    assert kinds["predicted"] == "categorical"


def test_whole_numbers_with_many_values_or_few_rows_each_are_numeric() -> None:
    rng = np.random.default_rng(0)
    many, _ = world.tabular(rng.integers(0, 500, (300, 1)))
    few_rows, _ = world.tabular(np.arange(12).reshape(12, 1))
    assert many.columns[0].kind == "numeric"
    assert few_rows.columns[0].kind == "numeric"


def test_every_class_is_a_known_category_even_if_the_reference_never_shows_it() -> None:
    profile, _ = world.tabular(np.random.default_rng(0).normal(size=(50, 1)))
    assert profile.columns[-1].categories == ("0", "1")


def test_range_and_unusable_values_are_counted_on_finite_values() -> None:
    table = np.random.default_rng(0).uniform(2, 3, (100, 1))
    table[0], table[1] = np.inf, np.nan
    column = world.tabular(table)[0].columns[0]
    assert column.not_finite == 2
    assert 2 <= column.low < column.high <= 3


def test_a_profile_survives_json() -> None:
    profile, _ = world.release()
    assert Profile.from_json(json.loads(json.dumps(profile.to_json(), allow_nan=False))) == profile


def test_the_given_accuracy_is_kept_and_else_taken_from_the_rows() -> None:
    given = Interval(0.9, 0.8, 0.95, 77)
    output = np.tile([0.9, 0.1], (10, 1))
    labels = np.array([0] * 8 + [1] * 2)
    assert build({"x": np.ones((10, 1))}, output, labels, given)[0].accuracy == given
    own = build({"x": np.ones((10, 1))}, output, labels)[0].accuracy
    assert own.value == 0.8
    assert own.n == 10


def test_reference_columns_survive_parquet_and_the_bytes_are_the_same_each_time(tmp_path: Path) -> None:
    _, reference = world.release()
    stored = reference_parquet(reference)
    assert stored == reference_parquet(reference)
    path = tmp_path / "reference.parquet"
    path.write_bytes(stored)
    back = read_reference(path)
    assert list(back) == list(reference)
    for name, values in reference.items():
        assert back[name].dtype == values.dtype
        np.testing.assert_array_equal(back[name], values)


@pytest.mark.parametrize("content", [None, b"", b"not parquet"])
def test_an_unreadable_reference_says_which_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "reference.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RegistryError, match=r"reference\.parquet"):
        read_reference(path)


def test_lengths_that_differ_and_no_rows_are_refused() -> None:
    with pytest.raises(DataError, match="lengths"):
        build({"x": np.ones((3, 1))}, np.ones((4, 2)) / 2, np.zeros(4))
    with pytest.raises(DataError, match="lengths"):
        build({"x": np.ones((0, 1))}, np.ones((0, 2)), np.zeros(0))
