"""Arrow IPC streams: a column an input, a row a row. pyarrow (30 MB, 0.2 s) is imported by the first such request.

A cell is a number for an input of shape (batch) or (batch, 1), else a list of the row's values, flat or nested, or a
fixed-shape tensor. Where a model has one input of shape (batch, k) and the stream k columns of numbers of other names,
the columns are its features, as in a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from trimtab.errors import ProtocolError
from trimtab.serving.arrow_messages import check_messages
from trimtab.serving.checked import Array, Spec

if TYPE_CHECKING:
    import pyarrow as pa

_PANDAS_INDEX = "__index_level_"  # columns pandas adds for an index that is not 0, 1, 2, …
_BAD = "BAD_REQUEST"


def read_arrow(body: bytes, spec: Spec) -> dict[str, Array]:
    """The inputs in a stream of record batches.

    Raises:
        ProtocolError: not such a stream, compressed or dictionary-encoded, a column too many or too few, or a null.
    """
    import pyarrow as pa
    from pyarrow import ipc

    try:
        check_messages(body)
        table = ipc.open_stream(pa.py_buffer(body)).read_all()
        table.validate(full=True)  # offsets from outside may point anywhere
        return _inputs(_columns(table), spec)
    except (pa.ArrowException, ValueError, OverflowError, OSError, EOFError, KeyError):
        raise ProtocolError("the body is not a whole Arrow IPC stream", code=_BAD) from None


def write_arrow(outputs: Mapping[str, Array]) -> bytes:
    """Outputs as a stream of one record batch: a column an output, a cell the list of a row's values."""
    import pyarrow as pa
    from pyarrow import ipc

    batch = pa.record_batch({name: _lists(values) for name, values in outputs.items()})
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    """The columns by name, without those of pandas' index."""
    if len(set(table.column_names)) != table.num_columns:
        raise ProtocolError("has two columns of one name", where="arrow", code=_BAD)
    if not table.num_rows:
        raise ProtocolError("has no rows", where="arrow")
    named = zip(table.column_names, table.columns, strict=True)
    return {name: column for name, column in named if not name.startswith(_PANDAS_INDEX)}


def _inputs(columns: Mapping[str, pa.ChunkedArray], spec: Spec) -> dict[str, Array]:
    tensors = spec["inputs"]
    names = [tensor["name"] for tensor in tensors]
    if len(names) == 1 and names[0] not in columns and tensors[0]["shape"][1:] == [len(columns)]:
        features = [_values(column, name) for name, column in columns.items()]
        if all(values.ndim == 1 for values in features):
            return {names[0]: np.stack(features, axis=1)}
    missing = [name for name in names if name not in columns]
    if missing:
        raise ProtocolError(f"lacks the columns {missing}", where="arrow")
    if len(columns) > len(names):
        raise ProtocolError(
            f"has {len(columns) - len(names)} unknown columns", where="arrow", fix=f"the model takes {names}"
        )
    return {tensor["name"]: _shaped(_values(columns[tensor["name"]], tensor["name"]), tensor) for tensor in tensors}


def _shaped(values: Array, tensor: Mapping[str, Any]) -> Array:
    """A flat cell takes the shape of a row; whatever else it is stays, and is refused with what was expected."""
    inner = tensor["shape"][1:]
    fixed = all(isinstance(size, int) for size in inner)
    flat = fixed and values.ndim <= 2 and prod(values.shape[1:]) == prod(inner)
    return values.reshape(-1, *inner) if flat else values


def _values(column: pa.ChunkedArray, name: str) -> Array:
    """A column as an array (rows, ...); a view where it is in one piece."""
    import pyarrow as pa

    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    shape = [len(array)]
    if isinstance(array.type, pa.FixedShapeTensorType):
        if array.type.permutation not in (None, list(range(len(array.type.shape)))):
            raise ProtocolError("is a tensor with permuted axes", where=name, fix="send it row-major")
        _refuse_nulls(array, name)
        shape, array = [len(array), *array.type.shape], array.storage.flatten()
    while pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        _refuse_nulls(array, name)
        shape.append(_list_size(array, name))
        array = array.flatten()
        if not len(array):
            raise ProtocolError("has no values", where=name)
    kind = array.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise ProtocolError(f"holds {str(kind)[:40]}, which is not numbers", where=name, code=_BAD)
    _refuse_nulls(array, name)
    return np.asarray(array.to_numpy(zero_copy_only=False)).reshape(shape)


def _list_size(array: pa.Array, name: str) -> int:
    """How many values every list holds."""
    import pyarrow as pa

    if pa.types.is_fixed_size_list(array.type):
        return int(array.type.list_size)
    sizes = np.diff(array.offsets.to_numpy())
    ragged = np.flatnonzero(sizes != sizes[0])
    if len(ragged):
        raise ProtocolError(
            f"has {sizes[ragged[0]]} values, the first has {sizes[0]}", where=f"{name}, list {ragged[0]}", code=_BAD
        )
    return int(sizes[0])


def _refuse_nulls(array: pa.Array, name: str) -> None:
    if array.null_count:
        first = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
        raise ProtocolError("is null; missing values are not imputed here", where=f"{name}, value {first}")


def _lists(values: Array) -> pa.Array:
    import pyarrow as pa

    array = pa.array(np.ascontiguousarray(values).reshape(-1))
    for size in reversed(values.shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array
