"""Columns become what the model takes, by the rules of the service's dataframe forms (`serving.tables`).

A column an input, a cell a row of it: a number, or a flat list of the row's values. Where the model has one input of
shape (batch, k) and no column of its name, k columns are its features. Plain numeric columns without gaps go straight
from Arrow to numpy; anything else goes the way of the service, whose errors name the value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trimtab.errors import DataError, ProtocolError
from trimtab.runtime.door import InputError, check_inputs
from trimtab.serving.tables import Table, table_arrays

Array = np.ndarray
Spec = Mapping[str, Any]
_EXACT = 2**53  # beyond it a float64, through which the service reads a number, does not hold every integer


@dataclass(frozen=True)
class Columns:
    """Which columns are read: the model's, in the order in which they become its inputs, and the keys."""

    model: tuple[str, ...]
    keys: tuple[str, ...]

    @property
    def read(self) -> list[str]:
        """Every column that is read, once."""
        return list(dict.fromkeys((*self.model, *self.keys)))


def choose(schema: pa.Schema, spec: Spec, keys: Sequence[str], ignored: Sequence[str]) -> Columns:
    """Find the model's inputs among the columns.

    Raises:
        DataError: a key or an input is not there, there are more or fewer features than the model takes, or a column
            is of a kind that holds no numbers.
    """
    names, tensors = schema.names, spec["inputs"]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"has the columns {twice} twice", where="input", fix="give every column a name of its own")
    for option, wanted in (("--key", keys), ("--ignore", ignored)):
        if missing := [name for name in wanted if name not in names]:
            raise DataError(f"has no columns {missing}", where=f"input, {option}", fix=f"its columns: {names}")
    inputs = [tensor["name"] for tensor in tensors]
    if set(inputs) <= set(names):
        model = inputs
    elif len(tensors) == 1 and len(tensors[0]["shape"]) == 2 and isinstance(tensors[0]["shape"][1], int):
        model = _features(names, keys, ignored, tensors[0])
    else:
        missing = [name for name in inputs if name not in names]
        raise DataError(f"lacks the model's inputs {missing}", where="input", fix=f"its columns: {names}")
    for name in model:
        _check_kind(name, schema.field(name).type)
    return Columns(tuple(model), tuple(keys))


def arrays(batch: pa.RecordBatch, columns: Columns, spec: Spec) -> dict[str, Array]:
    """A batch as the model takes it: input name → array (rows, ...).

    Raises:
        ProtocolError: a value cannot be read, as the service would say it.
    """
    found = _straight(batch, columns, spec["inputs"])
    if found is None:
        cells = [batch.column(name).to_pylist() for name in columns.model]
        rows = [list(row) for row in zip(*cells, strict=True)]
        found = table_arrays(Table("input", list(columns.model), rows), spec["inputs"])
    try:
        return check_inputs(spec, found)
    except InputError as error:
        raise ProtocolError(str(error)) from None


def _features(
    names: Sequence[str], keys: Sequence[str], ignored: Sequence[str], tensor: Mapping[str, Any]
) -> list[str]:
    found = [name for name in names if name not in {*keys, *ignored}]
    if len(found) != tensor["shape"][1]:
        raise DataError(
            f"has {len(found)} columns besides keys and ignored ones, and no column {tensor['name']!r}; the model "
            f"takes {tensor['shape'][1]} features",
            where="input",
            fix=f"name those that are none with --key or --ignore; there are {found[:20]}",
        )
    return found


def _check_kind(name: str, kind: pa.DataType) -> None:
    inner = kind.value_type if _is_list(kind) else kind
    fits = pa.types.is_integer(inner) or pa.types.is_floating(inner) or pa.types.is_boolean(inner)
    if not (fits or pa.types.is_string(inner) or pa.types.is_large_string(inner)):
        raise DataError(
            f"is {kind}; the model takes numbers, or flat lists of them",
            where=f"column {name!r}",
            fix="cast it, or flatten nested lists",
        )


def _straight(batch: pa.RecordBatch, columns: Columns, tensors: Sequence[Mapping[str, Any]]) -> dict[str, Array] | None:
    """The arrays where every cell is a plain number that the dtype holds; None where the long way has to look."""
    by_name = {name: batch.column(name) for name in columns.model}
    if set(by_name) != {tensor["name"] for tensor in tensors}:
        flat = [_numbers(column, 1) for column in by_name.values()]
        if any(values is None for values in flat):
            return None
        fitted = [_fitted(values.reshape(-1), tensors[0]["dtype"]) for values in flat if values is not None]
        if any(values is None for values in fitted):
            return None
        return {tensors[0]["name"]: np.stack([values for values in fitted if values is not None], axis=1)}
    found = {}
    for tensor in tensors:
        inner = tensor["shape"][1:]
        if any(isinstance(size, str) for size in inner):
            return None
        values = _numbers(by_name[tensor["name"]], prod(inner), scalar=inner in ([], [1]), lists=inner != [])
        fitting = None if values is None else _fitted(values, tensor["dtype"])
        if fitting is None:
            return None
        found[tensor["name"]] = fitting.reshape(-1, *inner)
    return found


def _numbers(column: pa.Array, width: int, *, scalar: bool = True, lists: bool = False) -> Array | None:
    """Numbers (rows * width,) of a column without gaps; None for anything else."""
    if _is_list(column.type):
        if not lists or column.null_count:
            return None
        flat = column.flatten()
        even = len(flat) == len(column) * width and pc.unique(pc.list_value_length(column)).to_pylist() == [width]
        return _plain(flat) if even else None
    return _plain(column) if scalar else None


def _plain(values: pa.Array) -> Array | None:
    kind = values.type
    if values.null_count or not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return None
    found: Array = values.to_numpy(zero_copy_only=False)
    return found


def _fitted(values: Array, dtype: str) -> Array | None:
    """The values in the model's dtype, where that changes nothing but a float's precision."""
    kind = np.dtype(dtype).kind
    if kind == "f":
        if values.dtype.kind in "iu" and (values.astype(np.float64) > _EXACT).any():
            return None
        if values.dtype.kind == "i" and (values < -_EXACT).any():
            return None
        with np.errstate(over="ignore"):
            narrow = values.astype(dtype)
        return narrow if np.isfinite(narrow).all() else None
    if values.dtype.kind == "f" or (values.dtype.kind == "u" and (values > np.iinfo(np.int64).max).any()):
        return None
    if kind == "b" and not ((values == 0) | (values == 1)).all():
        return None
    return values.astype(dtype)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
