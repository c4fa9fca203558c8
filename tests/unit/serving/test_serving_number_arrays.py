"""The short way from bytes to arrays gives what the long way gives, or leaves the body to it."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trimtab.errors import ProtocolError
from trimtab.serving import protocol
from trimtab.serving.number_arrays import number_arrays
from trimtab.serving.protocol import parse


def spec(**shapes) -> dict:
    return {
        "inputs": [
            {"name": name, "dtype": "int64" if name.startswith("ids") else "float32", "shape": ["batch", *shape]}
            for name, shape in shapes.items()
        ]
    }


IMAGE = spec(input=[2, 2, 3])
TABULAR = spec(input=[3])
STEPS = spec(input=["steps", 2])
IDS = spec(ids=[])
TWO = spec(a=[2], ids=["length"])
SPECS = [IMAGE, TABULAR, STEPS, IDS, TWO, spec(ids=[2])]


def outcome(body: bytes, of: dict):
    """Arrays as (dtype, shape, bits), or what the error says."""
    try:
        arrays = parse(body, "application/json", of)
    except ProtocolError as error:
        return error.what, error.where, error.fix, error.code, error.status
    return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}


def both(body: bytes, of: dict, monkeypatch_context) -> tuple:
    """The outcome with the short way and without it."""
    short = outcome(body, of)
    with monkeypatch_context() as patched:
        patched.setattr(protocol, "number_arrays", lambda body, tensors: None)
        return short, outcome(body, of)


NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.integers(-(2**70), 2**70),
    st.integers(-9, 9),
    st.sampled_from(
        [2**63, 2**63 - 1, -(2**63), 2**64, 2**53 + 1, 1e39, 3.4028235e38, 3.4028236e38, 1e-46, 5e-324, -0.0]
    ),
)
ODD = st.one_of(st.none(), st.booleans(), st.text(max_size=3), st.just("1.5"), st.lists(st.integers(0, 1), max_size=2))
WORDS = [
    "0",
    "-0",
    "-0.0",
    "1E5",
    "1e+05",
    "1.0e-7",
    "01",
    "1.",
    ".5",
    "+1",
    "-",
    "1e",
    "1e400",
    "1e-400",
    "NaN",
    "Infinity",
    "-Infinity",
    "nan",
    "true",
    "null",
    '"1"',
    "[]",
    "[1]",
    "[[1]]",
    "{}",
    "0x10",
    "1_000",
    "123456789012345678901234567890",
    "0.1234567890123456789012345678901234567890",
    "1,",
    "1 2",
    "",
]


def nested(numbers, shape):
    for size in reversed(shape):
        numbers = st.lists(numbers, min_size=size, max_size=size)
    return numbers


@st.composite
def regular(draw):
    of = draw(st.sampled_from(SPECS))
    rows, free = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    values = {}
    for tensor in of["inputs"]:
        whole = st.integers(-(2**63), 2**63 - 1) if tensor["dtype"] == "int64" else NUMBERS
        shape = [rows, *(free if isinstance(size, str) else size for size in tensor["shape"][1:])]
        values[tensor["name"]] = draw(nested(whole, shape))
    return of, values


def damaged(draw, value):
    """One place of nested lists changed: another value, a value too few or too many."""
    if not isinstance(value, list) or not value or draw(st.integers(0, 3)) == 0:
        return draw(st.one_of(ODD, NUMBERS))
    place, way = draw(st.integers(0, len(value) - 1)), draw(st.sampled_from(["change", "drop", "repeat"]))
    if way == "drop":
        return value[:place] + value[place + 1 :]
    if way == "repeat":
        return [*value, value[place]]
    return [*value[:place], damaged(draw, value[place]), *value[place + 1 :]]


@st.composite
def bodies(draw):
    of, values = draw(regular())
    if draw(st.booleans()):
        name = draw(st.sampled_from(sorted(values)))
        values[name] = damaged(draw, values[name])
    bare = len(values) == 1 and draw(st.booleans())
    data = next(iter(values.values())) if bare else values
    body = {draw(st.sampled_from(["inputs", "instances", "other"])): data}
    if draw(st.integers(0, 4)) == 0:
        body[draw(st.sampled_from(["params", "inputs", "instances", "x"]))] = draw(st.sampled_from([1, {}, data, None]))
    return of, json.dumps(body, indent=draw(st.sampled_from([None, 1]))).encode()


@settings(max_examples=600)
@given(given_body=bodies())
def test_both_ways_agree_on_values_and_errors(given_body):
    of, body = given_body
    short, long = both(body, of, pytest.MonkeyPatch.context)
    assert short == long


@settings(max_examples=300)
@given(words=st.lists(st.sampled_from(WORDS), min_size=3, max_size=3), of=st.sampled_from([TABULAR, spec(ids=[3])]))
@example(words=["1", "2", "[3]"], of=TABULAR)
@example(words=["-0", "0", "-0.0"], of=TABULAR)
def test_both_ways_agree_on_every_way_to_write_a_number(words, of):
    body = f'{{"inputs": [[{", ".join(words)}]]}}'.encode()
    short, long = both(body, of, pytest.MonkeyPatch.context)
    assert short == long


ROW = "[[1.5, 2, 3e0]]"
ODD_BODIES = [
    f'{{"inputs": {ROW}, "inputs": [[7, 8, 9]]}}',
    f'{{"inputs": {ROW}, "params": {{}}}}',
    f'{{"inputs": {ROW}}} ',
    f'{{"inputs": {ROW}}}x',
    f'{{"inputs": {ROW}}}\0',
    f'{{"inputs": {ROW}}}{{}}',
    f'\ufeff{{"inputs": {ROW}}}',
    f'{{"inp\\u0075ts": {ROW}}}',
    f'{{"inputs": {{"input": {ROW}, "input": [[7, 8, 9]]}}}}',
    f'{{"inputs": {{"input": {ROW}, "input": 5}}}}',
    f'{{"inputs": {{"input": 5, "input": {ROW}}}}}',
    f'{{"inputs": {{"input": {ROW}, "[": 1}}}}',
    f'{{"inputs": {{"\\u005b": {ROW}}}}}',
    f'\t\r\n {{ "inputs" : {ROW}\n}}',
    f'\x0b{{"inputs": {ROW}}}',
    f'{{"instances": {ROW}, "inputs": {ROW}}}',
    f'{{"inputs": {ROW}',
    '{"inputs": [[1, 2, 3], 4]}',
    '{"inputs": [1, [1, 2, 3]]}',
    '{"inputs": [[[1], [2], [3]]]}',
    '{"inputs": [[[1, 2, 3]]]}',
    '{"inputs": [[1, 2], [3, 4, 5, 6]]}',
    '{"inputs": [[1, 2, 3], []]}',
    '{"inputs": [[], [1, 2, 3]]}',
    '{"inputs": [[]]}',
    '{"inputs": []}',
    '{"inputs": {}}',
    '{"inputs": {"input": []}}',
    '{"inputs": {"input": 3}}',
    '{"inputs": 3}',
    '{"inputs": [{"input": [1, 2, 3]}]}',
    '{"instances": [{"input": [1, 2, 3]}]}',
    '{"inputs": {"other": [[1, 2, 3]]}}',
    '{"inputs": [[true, false, true]]}',
    '{"inputs": [[1, 2, null]]}',
    '{"inputs": [["1", "2", "3"]]}',
    "[[1, 2, 3]]",
    '{"dataframe_split": {"data": [[1, 2, 3]]}}',
    "",
    "{",
    '{"inputs"',
    '{"inputs": ' + "[" * 2000,
    '{"inputs": {"\\ud800": 1}}',
]


@pytest.mark.parametrize("of", [TABULAR, spec(ids=[3]), spec(ids=[]), IMAGE, TWO], ids=str)
def test_both_ways_agree_on_odd_bodies(of, monkeypatch):
    for text in ODD_BODIES:
        for body in (text.encode(), text.encode() + b"\xff", text.encode("utf-16")):
            short, long = both(body, of, monkeypatch.context)
            assert short == long, body


LINE, SHORT, LONG = [1, 2, 3], [1, 2], [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("rows", "of"),
    [
        ([LINE, SHORT, LONG], TABULAR),
        ([LINE, [LINE], LONG[:2]], TABULAR),
        ([[[LINE, LINE], [LINE, LINE]], [[LINE, LINE, LINE], [LINE]]], IMAGE),
        ([[[LINE, LINE], [LINE, LINE]], [[LINE, LINE]], [[LINE, LINE], [LINE, LINE], [LINE, LINE]]], IMAGE),
        ([[[LINE, LINE], [LINE, LINE]], [[LINE, LINE], [SHORT, LONG]]], IMAGE),
        ([[SHORT, SHORT], [SHORT], [SHORT, SHORT, SHORT]], STEPS),
    ],
)
def test_ragged_rows_are_seen_although_numbers_and_brackets_are_as_many_as_in_regular_ones(rows, of):
    body = json.dumps({"inputs": rows}).encode()
    assert number_arrays(body, of["inputs"]) is None
    short, long = both(body, of, pytest.MonkeyPatch.context)
    assert short == long
    assert short[-1] == 400


@pytest.mark.parametrize(
    ("body", "of"),
    [
        ({"instances": [[1.5, 2, -3e-7]]}, TABULAR),
        ({"inputs": [[1, 2, 3], [4, 5, 6]]}, TABULAR),
        ({"inputs": {"input": [[0.5, 1, 2]]}}, TABULAR),
        ({"instances": {"input": [[0.5, 1, 2]]}}, TABULAR),
        ({"inputs": [[[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [0, 1, 2]]]] * 3}, IMAGE),
        ({"inputs": [[[1, 2], [3, 4], [5, 6]]]}, STEPS),
        ({"inputs": [1, 2, 2**63 - 1]}, IDS),
        ({"inputs": {"ids": [[1, 2, 3]], "a": [[0.5, 1]]}}, TWO),
    ],
)
def test_regular_bodies_take_the_short_way(body, of):
    arrays = number_arrays(json.dumps(body).encode(), of["inputs"])
    assert arrays is not None
    for tensor in of["inputs"]:
        assert arrays[tensor["name"]].dtype == tensor["dtype"]


def test_what_is_read_outlives_the_next_body():
    first = number_arrays(b'{"inputs": [1, 2, 3]}', IDS["inputs"])
    number_arrays(b'{"inputs": [4, 5, 6]}', IDS["inputs"])
    assert first["ids"].tolist() == [1, 2, 3]


def test_a_body_that_is_refused_does_not_spoil_the_way_for_the_next():
    for _ in range(3):
        assert number_arrays(b'{"inputs": [[1, 2, null]]}', TABULAR["inputs"]) is None
        assert number_arrays(b'{"inputs": [[1, 2, [3]]]}', TABULAR["inputs"]) is None
        assert number_arrays(b'{"inputs": [[1, 2, 3', TABULAR["inputs"]) is None
        assert number_arrays(b'{"inputs": [[1, 2, 3]]}', TABULAR["inputs"])["input"].tolist() == [[1, 2, 3]]


def test_a_body_too_large_for_the_kept_parser_is_read_as_well():
    rows = np.arange(300_000).reshape(-1, 3)
    arrays = number_arrays(json.dumps({"inputs": rows.tolist()}).encode(), TABULAR["inputs"])
    np.testing.assert_array_equal(arrays["input"], rows.astype(np.float32))


def test_threads_do_not_disturb_each_other():
    faults = []

    def read(value):
        body = json.dumps({"inputs": [[value, value, value]] * 50}).encode()
        for _ in range(200):
            if not (number_arrays(body, TABULAR["inputs"])["input"] == value).all():
                faults.append(value)

    threads = [threading.Thread(target=read, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
