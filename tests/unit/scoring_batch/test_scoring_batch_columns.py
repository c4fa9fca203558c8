"""Columns become inputs as the service's dataframe forms would have it, straight or by the long way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import DataError, ProtocolError
from trimtab.scoring_batch import columns
from trimtab.scoring_batch.columns import Columns, arrays, choose
from trimtab.serving.tables import split_table, table_arrays

FEATURES = {"inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", 2]}]}


def spec(*tensors: tuple[str, str, list[Any]]) -> dict[str, Any]:
    return {"inputs": [{"name": name, "dtype": dtype, "shape": ["batch", *inner]} for name, dtype, inner in tensors]}


KINDS = {
    "float64": (pa.float64(), st.floats(-1e40, 1e40) | st.just(float("nan"))),
    "float32": (pa.float32(), st.floats(width=32, allow_nan=True)),
    "int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "int8": (pa.int8(), st.integers(-128, 127)),
    "uint64": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "bool": (pa.bool_(), st.booleans()),
    "text": (pa.string(), st.sampled_from(["1", "2.5", "x", ""])),
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[pa.RecordBatch, dict[str, Any]]:
    """A batch, of scalars or lists, with gaps or without, and a model that takes it."""
    rows = draw(st.integers(1, 5))
    dtype = draw(st.sampled_from(["float32", "int64", "bool"]))
    inner: list[int] = draw(st.sampled_from([[], [1], [2], [2, 2]]))
    width = int(np.prod(inner, dtype=int))
    features = inner == [2] and draw(st.booleans())
    built = {}
    for name in ("a", "b") if features else ("input",):
        kind, values = KINDS[draw(st.sampled_from(sorted(KINDS)))]
        as_lists = not features and inner != [] and (width > 1 or draw(st.booleans()))
        cell = st.lists(values, min_size=width, max_size=width) if as_lists else values
        cell = cell if draw(st.booleans()) else st.none() | cell
        built[name] = pa.array(draw(st.lists(cell, min_size=rows, max_size=rows)), pa.list_(kind) if as_lists else kind)
    return pa.record_batch(built), spec(("input", dtype, inner))


def by_the_service(batch: pa.RecordBatch, names: tuple[str, ...], wanted: dict[str, Any]) -> dict[str, Any]:
    cells = zip(*(batch.column(name).to_pylist() for name in names), strict=True)
    table = split_table({"columns": list(names), "data": [list(row) for row in cells]})
    return table_arrays(table, wanted["inputs"])


def outcome(read: Callable[[], dict[str, Any]]) -> Any:
    """The array that came of it, with its dtype; or where and why there is none."""
    try:
        found = read()["input"]
    except ProtocolError as error:
        return error.where, error.what
    return found.dtype, found.shape, found.tolist()


@given(tables())
def test_a_batch_is_read_as_the_service_would_read_it(made: tuple[pa.RecordBatch, dict[str, Any]]) -> None:
    batch, wanted = made
    chosen = choose(batch.schema, wanted, (), ())

    expected = outcome(lambda: by_the_service(batch, chosen.model, wanted))
    assert outcome(lambda: arrays(batch, chosen, wanted)) == expected


@pytest.mark.parametrize(
    ("kind", "values", "shape"),
    [
        (pa.list_(pa.float32()), [[1.0, 2.0, 3.0, 4.0]] * 3, [2, 2]),
        (pa.large_list(pa.float64()), [[1.0, 2.0, 3.0, 4.0]] * 3, [4]),
        (pa.list_(pa.int16(), 4), [[1, 2, 3, 4]] * 3, [1, 2, 2]),
        (pa.float16(), np.array([1, 2, 3], np.float16), [1]),
    ],
)
def test_plain_numbers_do_not_go_the_long_way(
    monkeypatch: pytest.MonkeyPatch, kind: pa.DataType, values: Any, shape: list[int]
) -> None:
    monkeypatch.setattr(columns, "table_arrays", None)
    batch = pa.record_batch({"input": pa.array(values, kind)})

    found = arrays(batch, Columns(("input",), ()), spec(("input", "float32", shape)))

    assert found["input"].shape == (3, *shape)
    assert found["input"].ravel().tolist() == np.ravel(values).tolist()


def test_a_slice_of_a_list_column_is_read_from_its_own_rows() -> None:
    batch = pa.record_batch({"input": pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])}).slice(1, 2)

    assert arrays(batch, Columns(("input",), ()), FEATURES)["input"].tolist() == [[3, 4], [5, 6]]


def test_inputs_are_found_by_name_and_other_columns_are_left_alone() -> None:
    schema = pa.schema([("label", pa.string()), ("b", pa.int64()), ("a", pa.float32()), ("when", pa.timestamp("s"))])
    wanted = spec(("a", "float32", []), ("b", "int64", []))

    assert choose(schema, wanted, ("label",), ()) == Columns(("a", "b"), ("label",))


def test_features_are_all_columns_but_keys_and_ignored_ones_in_their_order() -> None:
    schema = pa.schema([("id", pa.int64()), ("y", pa.float32()), ("note", pa.string()), ("x", pa.float32())])

    assert choose(schema, FEATURES, ("id",), ("note",)) == Columns(("y", "x"), ("id",))


def test_a_key_may_be_an_input_too_and_is_read_once() -> None:
    chosen = choose(pa.schema([("a", pa.float32())]), spec(("a", "float32", [])), ("a",), ())

    assert (chosen.model, chosen.keys, chosen.read) == (("a",), ("a",), ["a"])


@pytest.mark.parametrize(
    ("schema", "wanted", "keys", "ignored", "told"),
    [
        ([("a", pa.float32())], FEATURES, (), (), "has 1 columns besides"),
        ([("a", pa.float32()), ("b", pa.float32()), ("c", pa.float32())], FEATURES, (), (), "has 3 columns besides"),
        ([("a", pa.float32())], spec(("a", "float32", []), ("b", "float32", [])), (), (), "lacks the model's inputs"),
        ([("a", pa.float32())], spec(("image", "float32", [1, 2, 2])), (), (), "lacks the model's inputs"),
        ([("a", pa.timestamp("s")), ("b", pa.float32())], FEATURES, (), (), "is timestamp"),
        ([("input", pa.list_(pa.list_(pa.float32())))], FEATURES, (), (), "is list<"),
        ([("input", pa.struct([("x", pa.float32())]))], FEATURES, (), (), "is struct"),
        ([("input", pa.list_(pa.float32()))], FEATURES, ("id",), (), "no columns ['id']"),
        ([("input", pa.list_(pa.float32()))], FEATURES, (), ("id",), "no columns ['id']"),
        ([("a", pa.float32()), ("a", pa.float32())], FEATURES, (), (), "twice"),
    ],
)
def test_columns_that_do_not_fit_are_told_before_a_row_is_read(
    schema: Any, wanted: Any, keys: Any, ignored: Any, told: str
) -> None:
    with pytest.raises(DataError) as caught:
        choose(pa.schema(schema), wanted, keys, ignored)
    assert told in str(caught.value)
