"""The scoring protocol: what is read, what is refused, and with which status and code."""

from __future__ import annotations

import io
import json

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.errors import ProtocolError
from trimtab.serving.engine import encode
from trimtab.serving.protocol import parse

JSON = "application/json"


def spec(**shapes) -> dict:
    dtypes = {"ids": "int64", "flags": "bool"}
    return {
        "inputs": [
            {"name": name, "dtype": dtypes.get(name, "float32"), "shape": ["batch", *shape]}
            for name, shape in shapes.items()
        ],
        "outputs": [{"name": "probabilities", "dtype": "float32", "shape": ["batch", 2]}],
    }


IMAGE = spec(input=[1, 2, 2])
TWO = spec(a=[2], ids=[])
TABULAR = spec(input=[3])
ROW = [[[1, 2], [3, 4.5]]]


def read(value, of=IMAGE, content_type=JSON):
    return parse(value if isinstance(value, bytes) else json.dumps(value).encode(), content_type, of)


def refused(value, of=IMAGE, content_type=JSON) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        read(value, of, content_type)
    return caught.value


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [ROW, ROW]},
        {"inputs": [ROW, ROW]},
        {"instances": [{"input": ROW}, {"input": ROW}]},
        {"instances": {"input": [ROW, ROW]}},
        {"inputs": {"input": [ROW, ROW]}},
        {"dataframe_split": {"columns": ["input"], "index": [5, 6], "data": [[[1, 2, 3, 4.5]]] * 2}},
        {"dataframe_records": [{"input": [1, 2, 3, 4.5]}] * 2},
    ],
)
def test_every_form_gives_the_same_arrays(body):
    arrays = read(body)
    assert arrays["input"].dtype == np.float32
    np.testing.assert_array_equal(arrays["input"], np.array([ROW, ROW], np.float32))


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [{"a": [1, 2], "ids": 7}, {"a": [3, 4], "ids": 8}]},
        {"instances": {"ids": [7, 8], "a": [[1, 2], [3, 4]]}},
        {"inputs": {"a": [[1, 2], [3, 4]], "ids": [7, 8]}},
        {"dataframe_split": {"columns": ["ids", "a"], "data": [[7, [1, 2]], [8, [3, 4]]]}},
        {"dataframe_records": [{"a": [1, 2], "ids": 7}, {"ids": 8, "a": [3, 4]}]},
    ],
)
def test_several_inputs_are_found_by_name(body):
    arrays = read(body, TWO)
    assert arrays["a"].tolist() == [[1, 2], [3, 4]]
    assert arrays["ids"].dtype == np.int64
    assert arrays["ids"].tolist() == [7, 8]


def test_columns_of_a_table_are_the_features_of_a_single_input():
    expected = [[1.5, 2, 3], [4, 5, 6]]
    split = {"dataframe_split": {"columns": ["x", "y", "z"], "data": expected}}
    records = {"dataframe_records": [{"x": 1.5, "y": 2, "z": 3}, {"x": 4, "y": 5, "z": 6}]}
    csv = b"x,y,z\r\n1.5,2,3\r\n4,5,6\r\n"
    assert read(split, TABULAR)["input"].tolist() == expected
    assert read(records, TABULAR)["input"].tolist() == expected
    assert read(csv, TABULAR, "text/csv")["input"].tolist() == expected


def test_csv_holds_scalar_inputs_by_column():
    arrays = read(b"ids,score\n3,0.5\n4,1e3\n", spec(score=[], ids=[]), "text/csv; charset=utf-8")
    assert arrays["score"].tolist() == [0.5, 1000.0]
    assert arrays["ids"].tolist() == [3, 4]


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [["1.5", True, 2]]},
        {"inputs": [[1.5, 1, 2]], "params": {"temperature": 1}, "whatever": None},
    ],
)
def test_numeric_strings_booleans_and_other_keys_are_taken_as_the_stock_server_does(body):
    assert read(body, TABULAR)["input"].tolist() == [[1.5, 1, 2]]


def test_whole_floats_and_numeric_strings_fit_integers():
    body = {"inputs": {"ids": [1.0, 2, 9007199254740992], "flags": [True, False, 1]}}
    arrays = read(body, spec(ids=[], flags=[]))
    assert arrays["ids"].tolist() == [1, 2, 2**53]
    assert arrays["flags"].tolist() == [True, False, True]
    assert read({"inputs": ["7", "8"]}, spec(ids=[]))["ids"].tolist() == [7, 8]
    assert read({"inputs": [2**63 - 1]}, spec(ids=[]))["ids"].tolist() == [2**63 - 1]


@pytest.mark.parametrize("bad", ["1.5", '"2.5"', "9223372036854775808", "-9223372036854775809", "1e300", "null", '"x"'])
def test_what_is_no_int64_is_refused_with_its_index(bad):
    error = refused(f'{{"inputs": [1, {bad}]}}'.encode(), spec(ids=[]))
    assert error.status == 400
    assert error.where == "ids[1]"


@pytest.mark.parametrize(
    ("bad", "place"),
    [("NaN", "input[1][2]"), ("Infinity", "input[1][2]"), ("-Infinity", "input[1][2]"), ("null", "input[1][2]"),
     ("1e39", "input[1][2]"), ("1e400", "input[1][2]"), ('"nan"', "input[1][2]")],
)  # fmt: skip
def test_what_is_not_finite_is_refused_with_its_first_index(bad, place):
    error = refused(f'{{"instances": [[1, 2, 3], [4, 5, {bad}], [7, {bad}, 9]]}}'.encode(), TABULAR)
    assert (error.status, error.code, error.where) == (400, "INVALID_PARAMETER_VALUE", place)


def test_an_empty_csv_cell_is_a_missing_value():
    error = refused(b"x,y,z\n1,2,3\n4,,6\n", TABULAR, "text/csv")
    assert error.where == "input[1][1]"
    assert "null" in error.what


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"]", b'{"data": 0.0199132142]}', b"\xff\xfe", b"nonsense", b'{"inputs": [1,]}', b"[" * 5000,
        b'{"instances":' + b"[" * 100_000, b"[1, 2]", b"3", b"null", b'"text"',
        b"{}", b'{"data": [[1, 2, 3]]}', b'{"inputs": [[1, 2, 3]], "instances": [[1, 2, 3]]}',
        b'{"inputs": [[1, 2, 3], [1, 2]]}', b'{"inputs": [[1, 2, "x"]]}', b'{"inputs": [[1, 2, {}]]}',
        b'{"inputs": 3}', b'{"inputs": "text"}', b'{"instances": null}', b'{"instances": [[1, 2, [3]]]}',
        b'{"dataframe_split": [[1]]}', b'{"dataframe_split": {"columns": ["a"]}}',
        b'{"dataframe_split": {"data": [[1, 2, 3]], "other": 1}}', b'{"dataframe_split": {"data": [1, 2, 3]}}',
        b'{"dataframe_split": {"data": [[1, 2, 3], [1]]}}', b'{"dataframe_records": {"a": 1}}',
        b'{"dataframe_records": [1]}', b'{"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}',
    ],
)  # fmt: skip
def test_unreadable_requests_are_bad_requests(body):
    error = refused(body, TABULAR)
    assert (error.status, error.code) == (400, "BAD_REQUEST")


@pytest.mark.parametrize(
    ("body", "of"),
    [
        ({"inputs": []}, TABULAR), ({"instances": []}, TABULAR), ({"inputs": {"input": []}}, TABULAR),
        ({"dataframe_split": {"columns": ["x", "y", "z"], "data": []}}, TABULAR), ({"dataframe_records": []}, TABULAR),
        ({"inputs": [[1, 2]]}, TABULAR), ({"inputs": [1, 2, 3]}, TABULAR), ({"inputs": [[[1, 2, 3]]]}, TABULAR),
        ({"inputs": [{"input": [1, 2, 3]}]}, TABULAR), ({"inputs": {"other": [[1, 2, 3]]}}, TABULAR),
        ({"inputs": {"input": [[1, 2, 3]], "secret": [1]}}, TABULAR),
        ({"instances": [{"input": [1, 2, 3]}, {"input": [1, 2, 3], "secret": 1}]}, TABULAR),
        ({"instances": [{"input": [1, 2, 3]}, {}]}, TABULAR),
        ({"dataframe_records": [{"x": 1, "y": 2}]}, TABULAR), ({"dataframe_records": [{"x": 1}, {"y": 2}]}, TABULAR),
        ({"dataframe_split": {"columns": ["input", "secret"], "data": [[[1, 2, 3], 1]]}}, TABULAR),
        ({"inputs": {"a": [[1, 2]]}}, TWO), ({"inputs": [[1, 2]]}, TWO), ({"inputs": {"a": [[1, 2]], "ids": 3}}, TWO),
        ({"inputs": {"a": [[1, 2]], "ids": [1, 2, 3]}}, TWO),
        ({"instances": {"a": [[1, 2]], "ids": [1, 2, 3]}}, TWO),
    ],
)  # fmt: skip
def test_requests_that_do_not_fit_the_model_are_invalid(body, of):
    error = refused(body, of)
    assert (error.status, error.code) == (400, "INVALID_PARAMETER_VALUE")


def test_ragged_rows_are_refused_with_the_index():
    error = refused({"instances": [[1, 2, 3], [1, 2, 3], [1, 2]]}, TABULAR)
    assert error.where == "input[2]"
    assert "has 2 values, the model takes 3" in error.what


def test_nested_cells_of_a_table_are_refused_as_the_stock_server_does():
    assert refused({"dataframe_records": [{"input": ROW}]}).status == 400


@pytest.mark.parametrize(
    "header",
    [None, "", "application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8",
     'application/json ;  charset = "utf-8" ', "application/json;"],
)  # fmt: skip
def test_a_charset_or_no_content_type_changes_nothing(header):
    assert read({"inputs": [[1, 2, 3]]}, TABULAR, header)["input"].tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("header", "told"),
    [("text/plain", "must be"), ("application/json; charset=latin-1", "utf-8"),
     ("application/json; boundary=x", "boundary"), ("application/json; charset=utf-8; version=2", "version")],
)  # fmt: skip
def test_other_types_charsets_and_parameters_are_415_and_named(header, told):
    error = refused({"inputs": [[1, 2, 3]]}, TABULAR, header)
    assert error.status == 415
    assert told in error.what


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["input", "a", "ids", "x"]), inner),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None)
@given(
    form=st.sampled_from(["instances", "inputs", "dataframe_split", "dataframe_records"]),
    value=JSON_VALUES,
    of=st.sampled_from([IMAGE, TWO, TABULAR, spec(ids=[]), spec(flags=[2])]),
)
def test_any_json_is_answered_with_finite_arrays_or_an_error_without_the_payload(form, value, of):
    marker = "SECRETPAYLOAD"
    body = json.dumps({form: value, marker: marker}).encode()
    try:
        arrays = parse(body, JSON, of)
    except ProtocolError as refusal:
        error = refusal
    else:
        error = None
    if error is not None:
        assert error.status == 400
        assert marker not in str(error)
        return
    for tensor in of["inputs"]:
        array = arrays[tensor["name"]]
        assert array.dtype == tensor["dtype"]
        assert list(array.shape[1:]) == tensor["shape"][1:]
        assert np.isfinite(array).all()


@settings(max_examples=60, deadline=None)
@given(body=st.binary(max_size=60), content_type=st.sampled_from([JSON, "text/csv"]))
def test_any_bytes_are_refused_in_an_orderly_way(body, content_type):
    assert refused(body, IMAGE, content_type).status == 400


def test_the_answer_holds_the_same_numbers_as_the_stock_servers():
    from mlflow.pyfunc.scoring_server import predictions_to_json

    output = {"probabilities": np.random.default_rng(0).random((5, 7)).astype(np.float32)}
    stock = io.StringIO()
    predictions_to_json(output, stock)
    assert orjson.loads(encode(output)) == json.loads(stock.getvalue())


TOKENS = {**spec(ids=["length"], flags=["length"]), "axes": {"length": [2, 4]}}


@pytest.mark.parametrize("form", ["inputs", "instances"])
def test_a_free_axis_takes_any_size_within_its_bounds_and_says_which_otherwise(form):
    def body(ids, flags):
        return {form: {"ids": [ids, ids], "flags": [flags, flags]}}

    assert read(body([1, 2, 3], [True, False, True]), TOKENS)["ids"].tolist() == [[1, 2, 3]] * 2
    error = refused(body([1] * 5, [True] * 5), TOKENS)
    assert "'ids': length is 5, and may be 2 to 4; expected int64 of shape (batch, length), given" in str(error)
    assert (error.status, error.code) == (400, "INVALID_PARAMETER_VALUE")
    assert "'flags': length is 2, and 3 in 'ids'" in str(refused(body([1, 2, 3], [True, False]), TOKENS))
    ragged = refused({form: {"ids": [[1, 2], [1, 2, 3]], "flags": [[True, True]] * 2}}, TOKENS)
    assert ragged.status == 400
