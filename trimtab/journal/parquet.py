"""Blocks as Parquet files and back; any tool can read them.

Columns of rows: offset, request_id, row, time_ns, version, predicted, confidence, latency_ms, status, error, output
(list<float>), and for each input `in:NAME` (its values as a flat list) and `shape:NAME` ("1x8x8").
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trimtab.journal.rows import Array, LabelBlock, RowBlock, merged

_NUMBERS = ("offset", "row", "time_ns", "predicted", "confidence", "latency_ms", "status")
_LABEL_NUMBERS = ("at", "row", "label", "time_ns", "known")


def rows_table(blocks: Sequence[RowBlock]) -> pa.Table:
    """Blocks as one table, in the order of their offsets."""
    tables = [_table(block) for block in merged(blocks)]
    return pa.concat_tables(tables, promote_options="permissive").sort_by("offset")


def labels_table(blocks: Sequence[LabelBlock]) -> pa.Table:
    """Label blocks as one table, in their order."""
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(block, name) for block in blocks]) for name in _LABEL_NUMBERS
    }
    columns["request_id"] = list(itertools.chain.from_iterable(block.request_id for block in blocks))
    return pa.table(columns)


def read_rows(path: Path, lo: int, hi: int) -> Iterator[RowBlock]:
    """Rows lo ≤ offset < hi of a file; row groups outside are not read."""
    read = pq.read_table(path, filters=[("offset", ">=", lo), ("offset", "<", hi)], partitioning=None)
    names = [name.removeprefix("in:") for name in read.column_names if name.startswith("in:")]
    yield from _blocks(read, names)


def read_labels(path: Path, at: int, request_ids: Sequence[str]) -> LabelBlock:
    """Labels written when the journal held `at` rows or more: those of these requests, and all for unknown rows."""
    wanted = pc.field("request_id").isin(pa.array(request_ids, pa.string())) | ~pc.field("known")
    table = pq.read_table(path, filters=(pc.field("at") >= at) & wanted, partitioning=None)
    columns = {name: _numpy(table[name]) for name in _LABEL_NUMBERS}
    return LabelBlock(**columns, request_id=table["request_id"].to_pylist())


def read_keys(path: Path) -> tuple[list[str], list[int]]:
    """Request id and row of every row of a file."""
    table = pq.read_table(path, columns=["request_id", "row"], partitioning=None)
    return table["request_id"].to_pylist(), table["row"].to_pylist()


def read_offsets(path: Path, lo: int, hi: int) -> Iterator[tuple[tuple[str, int], int]]:
    """(request id, row) and offset of the rows lo ≤ offset < hi of a file; nothing else is read."""
    within = [("offset", ">=", lo), ("offset", "<", hi)]
    table = pq.read_table(path, columns=["request_id", "row", "offset"], filters=within, partitioning=None)
    keys = zip(table["request_id"].to_pylist(), table["row"].to_pylist(), strict=True)
    yield from zip(keys, table["offset"].to_pylist(), strict=True)


def _table(block: RowBlock) -> pa.Table:
    count = len(block)
    columns: dict[str, Any] = {name: getattr(block, name) for name in _NUMBERS}
    columns |= {"request_id": block.request_id, "version": block.version}
    columns["error"] = pa.array(block.error, pa.string())
    columns["output"] = _lists(block.output)
    for name, values in block.inputs.items():
        columns[f"in:{name}"] = _lists(values)
        columns[f"shape:{name}"] = ["x".join(map(str, values.shape[1:]))] * count
    return pa.table(columns)


def _lists(values: Array) -> pa.Array:
    flat = np.ascontiguousarray(values).reshape(len(values), -1)
    offsets = np.arange(len(flat) + 1, dtype=np.int32) * flat.shape[1]
    return pa.ListArray.from_arrays(offsets, pa.array(flat.reshape(-1)))


def _blocks(table: pa.Table, names: Sequence[str]) -> Iterator[RowBlock]:
    classes = pc.list_value_length(table["output"]).to_pylist()
    shapes = [table[f"shape:{name}"].to_pylist() for name in names]
    start = 0
    for key, run in itertools.groupby(zip(classes, *shapes, strict=True)):
        length = sum(1 for _ in run)
        part = table.slice(start, length).combine_chunks()
        start += length
        present = {name: shape for name, shape in zip(names, key[1:], strict=True) if shape is not None}
        yield RowBlock(
            **{name: _numpy(part[name]) for name in _NUMBERS},
            request_id=part["request_id"].to_pylist(),
            version=part["version"].to_pylist(),
            error=part["error"].to_pylist(),
            output=_flat(part["output"]).reshape(length, key[0]),
            inputs={
                name: _flat(part[f"in:{name}"]).reshape(length, *map(int, filter(None, shape.split("x"))))
                for name, shape in present.items()
            },
        )


def _flat(column: pa.ChunkedArray) -> Array:
    return _numpy(pa.chunked_array([chunk.flatten() for chunk in column.chunks], column.type.value_type))


def _numpy(column: pa.ChunkedArray) -> Array:
    return column.to_numpy()
