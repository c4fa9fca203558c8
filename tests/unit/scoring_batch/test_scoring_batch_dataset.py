"""The rows of a dataset: each once, in order, whatever the row groups, parts and batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from batch_world import rows_of, write
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import DataError
from trimtab.scoring_batch.dataset import Dataset, Reader, Source, open_dataset, plan


def made_up(groups: list[list[int]]) -> Dataset:
    return Dataset(pa.schema([]), tuple(Source(Path("x"), "x", 0, 0, "", tuple(rows)) for rows in groups))


@given(st.lists(st.lists(st.integers(0, 30), max_size=5), max_size=4), st.integers(1, 40))
def test_parts_cover_every_row_once_in_order(groups: list[list[int]], part_rows: int) -> None:
    dataset = made_up(groups)
    parts = plan(dataset, part_rows)

    covered = [(s.source, s.group, row) for part in parts for s in part for row in range(s.start, s.stop)]
    assert covered == [
        (source, group, row) for source, rows in enumerate(groups) for group, n in enumerate(rows) for row in range(n)
    ]
    assert [s.first for part in parts for s in part] == list(
        np.cumsum([0, *(s.stop - s.start for part in parts for s in part)])[:-1]
    )
    sizes = [sum(s.stop - s.start for s in part) for part in parts]
    assert all(size == part_rows for size in sizes[:-1])
    assert not sizes or 0 < sizes[-1] <= part_rows


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write(folder / "a.parquet", rows_of(23), group=10)
    write(folder / "sub" / "b.parquet", rows_of(9, 23), first=23, group=4)
    write(folder / ".hidden.parquet", rows_of(5), first=900)
    write(folder / "_temporary" / "c.parquet", rows_of(5), first=900)
    return folder


@pytest.mark.parametrize("begin", [0, 1, 3])
@pytest.mark.parametrize(("part_rows", "batch_rows"), [(1, 1), (7, 3), (8, 4), (100, 100), (5, 1000)])
def test_reading_may_begin_at_any_part_and_gives_every_row_with_its_place(
    files: Path, part_rows: int, batch_rows: int, begin: int
) -> None:
    dataset = open_dataset(files)
    parts = plan(dataset, part_rows)[begin:]
    reader = Reader(dataset, ["id"], batch_rows)

    found = []
    for part in parts:
        for span in part:
            for first, batch in reader.read(span):
                assert 0 < len(batch) <= batch_rows
                before = span.first + first - span.start
                assert batch.column("id").to_pylist() == list(range(before, before + len(batch)))
                found += batch.column("id").to_pylist()
    assert found == list(range(min(begin * part_rows, 32), 32))


def test_parts_may_be_left_out_in_between(files: Path) -> None:
    dataset = open_dataset(files)
    reader = Reader(dataset, ["id"], 3)

    found = [
        value
        for part in plan(dataset, 2)[::3]
        for span in part
        for _, batch in reader.read(span)
        for value in batch.column("id").to_pylist()
    ]

    assert found == [row for row in range(32) if row // 2 % 3 == 0]


def test_hidden_and_underscored_files_are_not_read(files: Path) -> None:
    assert [source.name for source in open_dataset(files).sources] == ["a.parquet", "sub/b.parquet"]
    assert open_dataset(files).rows == 32


def test_a_place_is_file_row_group_and_row(files: Path) -> None:
    dataset = open_dataset(files)
    span = plan(dataset, 100)[0][-1]

    assert dataset.place(span, 0) == "sub/b.parquet, row group 2, row 0"


def test_one_file_is_named_by_its_name(files: Path) -> None:
    assert open_dataset(files / "a.parquet").sources[0].name == "a.parquet"


def test_another_schema_is_told_with_what_differs(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", rows_of(3))
    write(tmp_path / "b.parquet", rows_of(3), extra=[1, 2, 3])

    with pytest.raises(DataError, match=r"other columns than a\.parquet: extra: int64") as caught:
        open_dataset(tmp_path)
    assert caught.value.where.endswith("b.parquet")


@pytest.mark.parametrize("name", ["absent.parquet", "empty-folder", "text.parquet"])
def test_what_cannot_be_read_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty-folder").mkdir()
    (tmp_path / "text.parquet").write_text("this is no Parquet file")

    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path / name)
    assert name in caught.value.where


def test_a_file_whose_pages_are_damaged_is_told_by_name_and_row_group(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", rows_of(1000), group=1000)
    content = bytearray(path.read_bytes())
    content[10:200] = bytes(190)
    path.write_bytes(content)
    dataset = open_dataset(path)

    with pytest.raises(DataError, match="cannot be read") as caught:
        list(Reader(dataset, ["id"], 10).read(plan(dataset, 10)[0][0]))
    assert caught.value.where.endswith("a.parquet, row group 0")


def test_a_changed_file_is_another_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", rows_of(10))
    before = open_dataset(path).sources[0].said()
    assert open_dataset(path).sources[0].said() == before

    write(path, rows_of(10, 1))
    assert open_dataset(path).sources[0].said() != before


def test_a_dataset_without_rows_has_no_parts(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([], pa.float32())}), tmp_path / "a.parquet")

    assert plan(open_dataset(tmp_path / "a.parquet"), 10) == []
