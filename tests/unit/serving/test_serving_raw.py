"""Raw tensors on /invocations: octet-stream, .npy and Arrow, in and out; what is refused; nothing is unpickled."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from serving_world import PICTURE, TWO, VECTOR, asked, loaded, spec
from starlette.testclient import TestClient

from trimtab.errors import ProtocolError
from trimtab.journal.reader import window
from trimtab.serving import media
from trimtab.serving.arrow import read_arrow, write_arrow
from trimtab.serving.arrow_messages import is_compressed
from trimtab.serving.checked import checked, from_octets
from trimtab.serving.raw import MOST_NPY_HEADER, read_npy, read_octets, write_npy, write_octets

ROWS = np.array([[1.5, 2, 3], [4, 5, 6.25]], np.float32)
MOST = 2**20


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with asked(tmp_path, loaded()) as (client, _):
        yield client


def npy(values: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, **options)
    return stream.getvalue()


def stream_of(columns: Any, options: Any = None) -> bytes:
    batch = columns if isinstance(columns, pa.RecordBatch) else pa.record_batch(columns)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema, options=options) as stream:
        stream.write_batch(batch)
    return sink.getvalue()


def refused(call: Callable[[], Any]) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        call()
    return caught.value


def outcome(read: Callable[[], Any]) -> tuple[ProtocolError | None, dict[str, np.ndarray]]:
    try:
        return None, checked(VECTOR, read(), MOST)
    except ProtocolError as error:
        return error, {}


BODIES = {
    media.OCTETS: ROWS.tobytes(),
    media.NPY: npy(ROWS),
    media.ARROW: stream_of({"input": list(ROWS)}),
    media.JSON: b'{"inputs": [[1.5, 2, 3], [4, 5, 6.25]]}',
    media.CSV: b"x,y,z\n1.5,2,3\n4,5,6.25\n",
}


def read_answer(kind: str, answer: Any) -> np.ndarray:
    if kind == media.JSON:
        return np.array(answer.json()["predictions"]["probabilities"], np.float32)
    if kind == media.NPY:
        return np.load(io.BytesIO(answer.content), allow_pickle=False)
    if kind == media.ARROW:
        table = pa.ipc.open_stream(answer.content).read_all()
        return np.array(table["probabilities"].to_pylist(), np.float32)
    assert answer.headers["x-trimtab-output"] == "probabilities"
    shape = [int(size) for size in answer.headers["x-trimtab-shape"].split(",")]
    return np.frombuffer(answer.content, answer.headers["x-trimtab-dtype"]).reshape(shape)


@pytest.mark.parametrize("asked_for", media.GIVEN)
@pytest.mark.parametrize("sent", BODIES)
def test_every_form_of_a_request_is_answered_in_every_form_with_the_same_numbers(client, tmp_path, sent, asked_for):
    headers = {"Content-Type": sent, "Accept": asked_for}
    answer = client.post("/invocations", content=BODIES[sent], headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == asked_for
    np.testing.assert_array_equal(read_answer(asked_for, answer), [[6.5, 1, 2], [15.25, 1, 2]])
    assert answer.headers["x-trimtab-version"] == "7"
    assert answer.headers["x-trimtab-journal"] == "durable"
    found = window(tmp_path / "journal", 0, 2)
    assert found.request_id.tolist() == [answer.headers["x-request-id"]] * 2
    np.testing.assert_array_equal(found.inputs["input"], ROWS)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [(None, media.JSON), ("", media.JSON), ("*/*", media.JSON), ("text/html, */*;q=0.8", media.JSON),
     ("text/html", media.JSON), (media.NPY, media.NPY), ("Application/X-NPY", media.NPY),
     (f"{media.JSON}, {media.NPY}", media.JSON), (f"{media.NPY}, {media.JSON}", media.NPY),
     (f"{media.JSON};q=0.5, {media.ARROW}", media.ARROW), (f"{media.NPY};q=0", media.JSON),
     (f"{media.NPY};q=x", media.JSON), (f"{media.NPY};q=nan", media.JSON),
     (f"*/*;q=0.1, {media.OCTETS};q=0.2", media.OCTETS)],
)  # fmt: skip
def test_an_answer_is_json_unless_something_else_is_preferred(accept, expected):
    assert media.answer_type(accept) == expected


def test_an_octet_stream_is_described_by_its_headers_and_read_without_a_copy():
    body = ROWS.astype("<f8").tobytes()
    found = read_octets(
        body, {"X-Trimtab-Shape": "2, 3", "X-Trimtab-Dtype": "float64", "X-Trimtab-Input": "input"}, VECTOR
    )
    assert found["input"].dtype == np.float64
    assert found["input"].tolist() == ROWS.tolist()
    assert np.shares_memory(found["input"], np.frombuffer(body, np.uint8))


def test_several_inputs_follow_one_another_in_the_order_they_are_named():
    values = {
        "ids": np.array([7, 8], np.int32),
        "flags": np.array([[1, 0], [0, 1]], bool),
        "a": np.ones((2, 2), np.float32),
    }
    headers = {
        "X-Trimtab-Input": "ids; flags; a",
        "X-Trimtab-Dtype": "int32; bool; float32",
        "X-Trimtab-Shape": "2; 2,2; 2,2",
    }
    body = b"".join(part.tobytes() for part in values.values())
    found = checked(TWO, read_octets(body, headers, TWO), MOST)
    for name, part in values.items():
        np.testing.assert_array_equal(found[name], part)
    assert found["ids"].dtype == np.int64
    assert all(array.flags.aligned for array in found.values())


@pytest.mark.parametrize(
    ("headers", "body", "told"),
    [
        ({}, b"x" * 13, "13 bytes; a row of float32 (3,) takes 12"),
        ({}, b"", "0 bytes"),
        ({"X-Trimtab-Shape": "2,3"}, b"x" * 12, "12 bytes; float32 of shape (2, 3) takes 24"),
        ({"X-Trimtab-Shape": "1,3"}, b"x" * 24, "24 bytes; float32 of shape (1, 3) takes 12"),
        ({"X-Trimtab-Shape": "0,3"}, b"", "has no values"),
        ({"X-Trimtab-Shape": "9999999999,9999999999"}, b"x", "shape"),
        ({"X-Trimtab-Shape": "1,,3"}, b"x" * 12, "X-Trimtab-Shape"),
        ({"X-Trimtab-Shape": "-1,3"}, b"x" * 12, "X-Trimtab-Shape"),
        ({"X-Trimtab-Shape": "1,3;1,3"}, b"x" * 24, 'part them by ";"'),
        ({"X-Trimtab-Dtype": "object"}, b"x" * 8, "dtype"),
        ({"X-Trimtab-Dtype": "bfloat16"}, b"x" * 8, "dtype"),
        ({"X-Trimtab-Input": "other"}, b"x" * 12, "must name inputs of the model"),
        ({"X-Trimtab-Input": "input; input"}, b"x" * 24, "once each"),
    ],
)  # fmt: skip
def test_bytes_that_are_not_what_the_headers_say_are_refused(headers, body, told):
    error = refused(lambda: checked(VECTOR, read_octets(body, headers, VECTOR), MOST))
    assert error.status == 400
    assert told in f"{error.where} {error.what} {error.fix}"


def test_an_octet_stream_for_several_inputs_must_name_them():
    error = refused(lambda: read_octets(b"x" * 8, {}, TWO))
    assert "takes 3 inputs" in error.what


def test_a_byte_that_is_no_bool_is_refused():
    assert from_octets("b", memoryview(b"\0\1"), "bool", [2]).tolist() == [False, True]
    assert "neither 0 nor 1" in refused(lambda: from_octets("b", memoryview(b"\0\2"), "bool", [2])).what


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sent", [media.OCTETS, media.NPY, media.ARROW])
def test_what_is_not_finite_is_refused_with_its_first_index(client, sent, value):
    rows = ROWS.copy()
    rows[1, 2] = value
    body = {media.OCTETS: rows.tobytes(), media.NPY: npy(rows), media.ARROW: stream_of({"input": list(rows)})}[sent]
    answer = client.post("/invocations", content=body, headers={"Content-Type": sent})
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert "input[1][2]" in answer.json()["message"]


def test_what_grows_too_large_is_413():
    most = 100
    error = refused(lambda: checked(spec(ids=("int64", [])), {"ids": np.ones(13, np.int8)}, most))
    assert error.status == 413
    assert checked(spec(ids=("int64", [])), {"ids": np.ones(12, np.int8)}, most)["ids"].dtype == np.int64


def test_a_tensor_at_any_byte_is_aligned_before_a_runtime_sees_it():
    body = memoryview(b"x" + ROWS.tobytes())[1:]
    assert checked(VECTOR, {"input": from_octets("input", body, "float32", [2, 3])}, MOST)["input"].flags.aligned


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int16", "uint8", "bool"])
def test_a_npy_file_is_read_in_either_order_and_any_plain_dtype(order, dtype):
    values = np.asarray(np.arange(24).reshape(2, 3, 4) % 2, dtype, order=order)
    of = spec(input=("float32", [3, 4]))
    np.testing.assert_array_equal(checked(of, read_npy(npy(values), of), MOST)["input"], values.astype(np.float32))


class Explosive:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def test_an_array_of_objects_is_refused_and_never_unpickled():
    body = npy(np.array([Explosive()], object), allow_pickle=True)
    assert "dtype" in refused(lambda: read_npy(body, VECTOR)).what


def npy_with(header: bytes, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\x93NUMPY", b"not numpy at all", npy(ROWS)[:20], b"\x93NUMPY\x03\x00" + b"\0" * 40,
        npy_with(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }" + b" " * MOST_NPY_HEADER),
        npy_with(b"__import__('os')"), npy_with(b"(" * 300), npy_with(b"[" * 4000), npy_with(b"{}"),
        npy_with(b"\xff" * 20),
        npy_with(b"{'descr': '<f4', 'fortran_order': 1, 'shape': (1, 3), }", b"x" * 12),
        npy_with(b"{'descr': ['x'], 'fortran_order': False, 'shape': (1, 3), }", b"x" * 12),
        npy_with(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 'x'), }", b"x" * 12),
    ],
)  # fmt: skip
def test_what_is_no_npy_file_is_a_bad_request(body):
    error = refused(lambda: read_npy(body, VECTOR))
    assert (error.status, error.code) == (400, "BAD_REQUEST")


@pytest.mark.parametrize(
    ("descr", "shape", "data"),
    [("<f4", "(1, 3)", b"x" * 11), ("<f4", "(1, 3)", b"x" * 13), ("<f4", "(2**62, 3)", b""), ("<f4", "(-1, 3)", b""),
     ("<f4", f"({2**62}, 3)", b"x"), ("<f4", "(0, 3)", b""), (">f4", "(1, 3)", b"x" * 12), ("<U3", "(1, 3)", b"x" * 36),
     ("<M8[s]", "(1, 3)", b"x" * 24), ("<c8", "(1, 3)", b"x" * 24), ("|V4", "(1, 3)", b"x" * 12)],
)  # fmt: skip
def test_a_npy_header_that_does_not_fit_its_bytes_is_refused_before_anything_is_made(descr, shape, data):
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    assert refused(lambda: read_npy(npy_with(header, data), VECTOR)).status == 400


def test_a_npy_file_holds_one_input():
    assert "takes 3 inputs" in refused(lambda: read_npy(npy(ROWS), TWO)).what


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1.5, 2, 3], [4, 5, 6.25]]),
        pa.array([[1.5, 2, 3], [4, 5, 6.25]], pa.large_list(pa.float32())),
        pa.array([[1.5, 2, 3], [4, 5, 6.25]], pa.list_(pa.float32(), 3)),
        pa.FixedShapeTensorArray.from_numpy_ndarray(ROWS.copy()),
        pa.array([[0, 0], [1.5, 2, 3], [4, 5, 6.25]])[1:],
    ],
    ids=["list", "large_list", "fixed_size_list", "tensor", "slice"],
)
def test_an_arrow_cell_may_be_any_kind_of_list(column):
    found = checked(VECTOR, read_arrow(stream_of({"input": column}), VECTOR), MOST)
    assert found["input"].tolist() == ROWS.tolist()


def test_arrow_cells_of_images_may_be_nested_or_flat():
    values = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    for cells in (values.tolist(), values.reshape(2, -1).tolist()):
        found = checked(PICTURE, read_arrow(stream_of({"input": pa.array(cells)}), PICTURE), MOST)
        np.testing.assert_array_equal(found["input"], values)


def test_arrow_columns_are_inputs_by_name_or_the_features_of_one_and_pandas_index_is_left_out():
    columns = {"flags": pa.array([[True, False], [False, True]]), "ids": pa.array([7, 8], pa.int32()),
               "a": pa.array([[1.0, 2], [3, 4]]), "__index_level_0__": pa.array([5, 6])}  # fmt: skip
    found = checked(TWO, read_arrow(stream_of(columns), TWO), MOST)
    assert found["ids"].tolist() == [7, 8]
    assert found["flags"].tolist() == [[True, False], [False, True]]
    features = {"x": pa.array([1.5, 4]), "y": pa.array([2, 5], pa.int8()), "z": pa.array([3, 6.25], pa.float32())}
    assert checked(VECTOR, read_arrow(stream_of(features), VECTOR), MOST)["input"].tolist() == ROWS.tolist()


def test_several_arrow_batches_are_the_rows_of_one_request():
    sink = io.BytesIO()
    batches = [pa.record_batch({"input": pa.array([row.tolist()])}) for row in ROWS]
    with pa.ipc.new_stream(sink, batches[0].schema) as stream:
        for batch in batches:
            stream.write_batch(batch)
    assert read_arrow(sink.getvalue(), VECTOR)["input"].tolist() == ROWS.tolist()


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_a_compressed_batch_is_refused_before_it_is_unpacked(codec, monkeypatch):
    bomb = stream_of({"input": pa.array(np.zeros(3_000_000))}, pa.ipc.IpcWriteOptions(compression=codec))
    assert len(bomb) < 200_000
    before = pa.total_allocated_bytes()
    error = refused(lambda: read_arrow(bomb, VECTOR))
    assert (error.status, "compressed" in error.what) == (415, True)
    assert pa.total_allocated_bytes() - before < 1_000_000


@pytest.mark.parametrize(
    "metadata", [b"", b"\0" * 3, b"\xff" * 64, struct.pack("<I", 2**31), b"\x04\0\0\0\xff\xff\xff\x7f"]
)
def test_a_flatbuffer_that_leads_outside_itself_is_refused(metadata):
    with pytest.raises(ValueError, match="outside"):
        is_compressed(metadata)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"input": pa.array([["a", "b", "c"]])}, "not numbers"),
        ({"input": pa.array([None, [1.0, 2, 3]])}, "null"),
        ({"input": pa.array([[1.0, None, 3]])}, "null"),
        ({"input": pa.array([[1.0, 2, 3], [1.0]])}, "has 1 values, the first has 3"),
        ({"input": pa.array([[], []], pa.list_(pa.float32()))}, "no values"),
        ({"input": pa.array([], pa.list_(pa.float32()))}, "no rows"),
        ({"input": pa.nulls(2)}, "not numbers"),
        ({"other": pa.array([[1.0, 2, 3]])}, "lacks the columns"),
        ({"input": pa.array([[1.0, 2, 3]]), "other": pa.array([1])}, "unknown columns"),
        ({"input": pa.array([[1.0, 2]])}, "shape"),
        ({"input": pa.array([{"x": 1}])}, "not numbers"),
        ({"input": pa.array(["a", "a"]).dictionary_encode()}, "dictionary"),
    ],
)
def test_arrow_columns_that_do_not_fit_are_refused(columns, told):
    error = refused(lambda: checked(VECTOR, read_arrow(stream_of(columns), VECTOR), MOST))
    assert told in f"{error.what} {error.where}"


@pytest.mark.parametrize("cut", [0, 1, 7, 40, 200, -9])
def test_a_torn_arrow_stream_is_refused(cut):
    whole = stream_of({"input": list(ROWS)})[:-8]  # without its end mark, which may be missing
    assert refused(lambda: read_arrow(whole[:cut], VECTOR)).status == 400


@settings(max_examples=60)
@given(data=st.data())
def test_an_arrow_stream_with_changed_bytes_is_refused_or_read_and_nothing_else_happens(data):
    body = bytearray(stream_of({"input": list(ROWS)}))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    error, found = outcome(lambda: read_arrow(bytes(body), VECTOR))
    assert found["input"].shape[1:] == (3,) if error is None else error.status in (400, 413, 415)


@settings(max_examples=40)
@given(body=st.binary(max_size=80), kind=st.sampled_from([media.OCTETS, media.NPY, media.ARROW]))
def test_any_bytes_are_read_or_refused_in_an_orderly_way(body, kind):
    readers = {
        media.OCTETS: lambda: read_octets(body, {}, VECTOR),
        media.NPY: lambda: read_npy(body, VECTOR),
        media.ARROW: lambda: read_arrow(body, VECTOR),
    }
    error, found = outcome(readers[kind])
    if error is not None:
        assert error.status in (400, 415)
        return
    assert kind == media.OCTETS
    assert np.isfinite(found["input"]).all()


@settings(max_examples=30)
@given(values=arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 3)), elements=st.floats(width=32)))
def test_answers_come_back_as_they_were(values):
    body, headers = write_octets("p", values)
    shape = tuple(int(size) for size in headers["X-Trimtab-Shape"].split(","))
    assert body == values.tobytes()
    assert (shape, headers["X-Trimtab-Dtype"]) == (values.shape, "float32")
    np.testing.assert_array_equal(np.load(io.BytesIO(write_npy(values)), allow_pickle=False), values)
    column = pa.ipc.open_stream(write_arrow({"p": values})).read_all()["p"]
    assert column.type == pa.list_(pa.float32(), values.shape[1])
    np.testing.assert_array_equal(column.combine_chunks().flatten().to_numpy(), values.reshape(-1))


@pytest.mark.parametrize(
    "sent", [media.JPEG, media.PNG, media.MULTIPART, "text/plain", "application/vnd.apache.parquet"]
)
def test_what_the_release_does_not_take_is_415_with_the_reason(client, sent):
    answer = client.post("/invocations", content=b"x", headers={"Content-Type": sent})
    assert answer.status_code == 415
    assert ("does not say how an image" if sent in media.TAKEN else "must be one of") in answer.json()["message"]


def test_neither_arrow_nor_pillow_is_imported_until_one_is_sent():
    code = "import sys, trimtab.serving.app; print(sorted({'pyarrow', 'PIL'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
