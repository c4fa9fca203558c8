"""A window in a Parquet file, read a column at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trimtab.errors import DataError
from trimtab.monitoring.drift import compare
from trimtab.monitoring.table import ParquetColumns, table_profile

Array = np.ndarray


def table(seed: int, rows: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    predicted = rng.integers(0, 3, rows)
    return {"a": rng.normal(size=rows), "b": rng.random(rows), "predicted": predicted, "label": predicted}


def written(path: Path, columns: dict[str, object]) -> ParquetColumns:
    pq.write_table(pa.table(columns), path, row_group_size=1000)
    return ParquetColumns(path)


def test_a_file_gives_the_results_of_its_columns_in_memory_and_each_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, now = table(0, 500), table(1, 30_000)
    now["a"] = now["a"] + 0.5
    profile = table_profile(reference, "predicted", "label")
    window = written(tmp_path / "window.parquet", now)
    assert window.rows == 30_000
    read: list[str] = []
    plain = ParquetColumns.__getitem__
    monkeypatch.setattr(ParquetColumns, "__getitem__", lambda self, name: read.append(name) or plain(self, name))
    found = compare(window, reference, profile, 0.01).results
    assert found == compare(now, reference, profile, 0.01).results
    assert [result.name for result in found if result.drifted] == ["a"]
    assert sorted(read) == sorted(now)


def test_nulls_text_and_missing_columns_of_a_file_are_findings_and_the_others_are_judged(tmp_path: Path) -> None:
    reference = table(0, 500)
    profile = table_profile(reference, "predicted", "label")
    now = {
        "a": pa.nulls(5, pa.float64()),
        "b": ["x"] * 5,
        "label": [0, 1, 2, None, 1],
        "later": pa.array([1, 2, 3, 4, 5], pa.timestamp("s")),
    }
    window = written(tmp_path / "window.parquet", now)
    found = {
        result.name: [f.code for f in result.findings] for result in compare(window, reference, profile, 0.01).results
    }
    assert found == {
        "a": ["no_data"],
        "b": ["retyped"],
        "predicted": ["missing"],
        "label": ["not_finite"],
        "later": ["new_column"],
    }


def test_a_table_s_profile_wants_predictions_and_labels_and_a_file_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'label'"):
        table_profile({"predicted": np.zeros(5)}, "predicted", "label")
    with pytest.raises(DataError, match=r"nowhere\.parquet"):
        ParquetColumns(tmp_path / "nowhere.parquet")
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(DataError, match=r"text\.parquet"):
        ParquetColumns(tmp_path / "text.parquet")


def test_columns_are_not_kept(tmp_path: Path) -> None:
    window = written(tmp_path / "window.parquet", table(0, 100))
    assert isinstance(iter(window), Iterator)
    assert window["a"] is not window["a"]
    assert "a" in window
    assert "z" not in window
