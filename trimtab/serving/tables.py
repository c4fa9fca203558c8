"""Tables (dataframe_split, dataframe_records, CSV) become arrays: a column an input, a cell a row of it.

A cell holds a scalar for an input of shape (batch) or (batch, 1), else a flat list of that row's values. Where a
model has one input of shape (batch, k) and the table has k columns of other names, the columns are its features.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from trimtab.errors import ProtocolError
from trimtab.serving.tensors import to_array

Array = np.ndarray
_BAD = "BAD_REQUEST"


@dataclass(frozen=True)
class Table:
    """Rows of cells; `form` is where it came from, for messages."""

    form: str
    columns: list[str]
    rows: list[list[Any]]


def split_table(data: Any) -> Table:
    """`dataframe_split`: {"columns"?, "index"?, "data"}.

    Raises:
        ProtocolError: another form, or a row with another number of cells.
    """
    form = "dataframe_split"
    if not isinstance(data, dict) or "data" not in data or set(data) - {"columns", "index", "data"}:
        raise ProtocolError("must be an object with `data` and optionally `columns`, `index`", where=form, code=_BAD)
    rows = data["data"]
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise ProtocolError("must be a list of rows, each a list", where=f"{form}.data", code=_BAD)
    columns = data.get("columns")
    if columns is None:
        columns = list(range(len(rows[0]))) if rows else []
    if not isinstance(columns, list):
        raise ProtocolError("must be a list", where=f"{form}.columns", code=_BAD)
    return _checked(Table(form, [str(column) for column in columns], rows))


def records_table(data: Any) -> Table:
    """`dataframe_records`: a list of objects with the same keys.

    Raises:
        ProtocolError: another form, or a record with other keys.
    """
    form = "dataframe_records"
    if not isinstance(data, list):
        raise ProtocolError("must be a list of objects", where=form, code=_BAD)
    columns: list[str] = list(data[0]) if data and isinstance(data[0], dict) else []
    rows = []
    for index, record in enumerate(data):
        if not isinstance(record, dict):
            raise ProtocolError("must be an object", where=f"{form}[{index}]", code=_BAD)
        if record.keys() != set(columns):
            raise ProtocolError("has other keys than the first record", where=f"{form}[{index}]")
        rows.append([record[column] for column in columns])
    return _checked(Table(form, columns, rows))


def csv_table(body: bytes) -> Table:
    """A CSV body: a header line, then rows.

    Raises:
        ProtocolError: not UTF-8, not CSV, or a row with another number of cells.
    """
    try:
        lines = list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error):
        raise ProtocolError("the body is not CSV in UTF-8", code=_BAD) from None
    header, *rows = [line for line in lines if line] or [[]]
    return _checked(Table("csv", [column.strip() for column in header], [list(row) for row in rows]))


def table_arrays(table: Table, tensors: Sequence[Mapping[str, Any]]) -> dict[str, Array]:
    """Input name → array (rows, ...).

    Raises:
        ProtocolError: a column is missing or unknown, or a cell cannot be read.
    """
    names = [tensor["name"] for tensor in tensors]
    if len(tensors) == 1 and names[0] not in table.columns and tensors[0]["shape"][1:] == [len(table.columns)]:
        return {names[0]: to_array(table.rows, tensors[0])}
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise ProtocolError(f"lacks the columns {missing}", where=table.form)
    if len(table.columns) > len(names):
        unknown = len(table.columns) - len(names)
        raise ProtocolError(f"has {unknown} unknown columns", where=table.form, fix=f"the model takes {names}")
    cells = {name: [row[table.columns.index(name)] for row in table.rows] for name in names}
    return {tensor["name"]: _column(cells[tensor["name"]], tensor) for tensor in tensors}


def _column(cells: list[Any], tensor: Mapping[str, Any]) -> Array:
    inner = tensor["shape"][1:]
    if inner in ([], [1]):
        flat = {**tensor, "shape": ["batch"]}
        scalars = [cell[0] if inner and isinstance(cell, list) and len(cell) == 1 else cell for cell in cells]
        return to_array(scalars, flat).reshape(-1, *inner)
    if any(isinstance(size, str) for size in inner):
        raise ProtocolError("has a free axis, which a table cannot hold", where=tensor["name"], fix="use `inputs`")
    array = to_array(cells, {**tensor, "shape": ["batch", prod(inner)]})
    return array.reshape(-1, *inner)


def _checked(table: Table) -> Table:
    if len(set(table.columns)) != len(table.columns):
        raise ProtocolError("has two columns of one name", where=table.form, code=_BAD)
    if not table.rows:
        raise ProtocolError("has no rows", where=table.form)
    for index, row in enumerate(table.rows):
        if len(row) != len(table.columns):
            raise ProtocolError(
                f"row {index} has {len(row)} cells for {len(table.columns)} columns", where=table.form, code=_BAD
            )
    return table
