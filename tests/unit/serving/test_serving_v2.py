"""The Open Inference Protocol over HTTP: health, metadata, JSON and binary tensors, and errors in its own form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_world import PICTURE, TWO, VECTOR, asked, loaded, spec
from starlette.testclient import TestClient

from trimtab.errors import ProtocolError
from trimtab.journal.reader import window
from trimtab.serving.v2_inference import HEADER_LENGTH, Inference
from trimtab.serving.v2_tensors import DATATYPES

INFER = "/v2/models/tiny/infer"
ROWS = np.array([[1.5, 2, 3], [4, 5, 6.25]], np.float32)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with asked(tmp_path, loaded()) as (client, _):
        yield client


def tensor(values: Any = ROWS, datatype: str = "FP32", name: str = "input", **changes: Any) -> dict[str, Any]:
    entry = {"name": name, "shape": list(np.shape(values)), "datatype": datatype, "data": np.ravel(values).tolist()}
    return {**entry, **changes}


def binary(message: dict[str, Any], *data: bytes) -> tuple[bytes, dict[str, str]]:
    head = json.dumps(message).encode()
    return head + b"".join(data), {HEADER_LENGTH: str(len(head))}


def as_bytes(values: np.ndarray, datatype: str, name: str = "input") -> dict[str, Any]:
    described = {"name": name, "shape": list(values.shape), "datatype": datatype}
    return {**described, "parameters": {"binary_data_size": values.nbytes}}


def test_health_and_metadata_say_what_is_there(client):
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    server = client.get("/v2").json()
    assert (server["name"], server["extensions"]) == ("trimtab", ["binary_tensor_data"])
    described = {
        "name": "tiny", "versions": ["7"], "platform": "onnxruntime-cpu",
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}],
    }  # fmt: skip
    for base in ("/v2/models/tiny", "/v2/models/tiny/versions/7"):
        assert client.get(base).json() == described
        assert client.get(f"{base}/ready").json() == {"name": "tiny", "ready": True}


@pytest.mark.parametrize("path", ["", "/ready", "/infer"])
@pytest.mark.parametrize("model", ["other", "tiny/versions/8", "tiny/versions/champion"])
def test_another_model_or_version_is_404_in_the_form_of_the_protocol(client, model, path):
    call = client.post if path == "/infer" else client.get
    options = {"json": {"inputs": [tensor()]}} if path == "/infer" else {}
    answer = call(f"/v2/models/{model}{path}", **options)
    assert answer.status_code == 404
    assert list(answer.json()) == ["error"]


def test_before_a_release_serves_the_server_is_alive_and_not_ready(tmp_path):
    with asked(tmp_path, None) as (client, _):
        assert client.get("/v2/health/live").status_code == client.get("/v2").status_code == 200
        for path in ("/v2/health/ready", "/v2/models/tiny/ready", "/v2/models/tiny"):
            assert client.get(path).status_code == 503
        answer = client.post(INFER, json={"inputs": [tensor()]})
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert list(answer.json()) == ["error"]


@pytest.mark.parametrize("data", [ROWS.tolist(), ROWS.ravel().tolist()], ids=["nested", "flat"])
@pytest.mark.parametrize("path", [INFER, "/v2/models/tiny/versions/7/infer"])
def test_json_is_answered_in_json_and_journalled_under_its_id(client, tmp_path, path, data):
    answer = client.post(path, json={"id": "order-66", "inputs": [tensor(data=data)], "parameters": {"other": 1}})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "model_name": "tiny", "model_version": "7", "id": "order-66",
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [2, 3], "data": [6.5, 1, 2, 15.25, 1, 2]}],
    }  # fmt: skip
    assert answer.headers["x-request-id"] == "order-66"
    assert answer.headers["x-trimtab-version"] == "7"
    assert answer.headers["x-trimtab-journal"] == "durable"
    found = window(tmp_path / "journal", 0, 2)
    assert found.request_id.tolist() == ["order-66"] * 2
    np.testing.assert_array_equal(found.inputs["input"], ROWS)


def test_the_header_names_a_request_before_its_id_and_an_id_of_any_text_comes_back(client):
    answer = client.post(INFER, json={"id": "a", "inputs": [tensor()]}, headers={"X-Request-Id": "b"})
    assert (answer.headers["x-request-id"], answer.json()["id"]) == ("b", "a")
    answer = client.post(INFER, json={"id": "not an id of ours: é", "inputs": [tensor()]})
    assert answer.json()["id"] == "not an id of ours: é"
    assert len(answer.headers["x-request-id"]) == 32
    assert "id" not in client.post(INFER, json={"inputs": [tensor()]}).json()


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"parameters": {"binary_data_output": True}}, True),
        ({"outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}]}, True),
        ({"outputs": [{"name": "probabilities"}], "parameters": {"binary_data_output": True}}, True),
        ({"outputs": [{"name": "probabilities", "parameters": {"binary_data": False}}],
          "parameters": {"binary_data_output": True}}, False),
        ({"outputs": []}, False),
    ],
)  # fmt: skip
def test_binary_tensors_go_in_and_come_out_where_they_are_asked_for(client, message, expected):
    body, headers = binary({"inputs": [as_bytes(ROWS, "FP32")], **message}, ROWS.tobytes())
    answer = client.post(INFER, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    if not expected:
        assert answer.json()["outputs"][0]["data"] == [6.5, 1, 2, 15.25, 1, 2]
        assert HEADER_LENGTH not in answer.headers
        return
    length = int(answer.headers[HEADER_LENGTH])
    (output,) = json.loads(answer.content[:length])["outputs"]
    assert output == {
        "name": "probabilities", "datatype": "FP32", "shape": [2, 3], "parameters": {"binary_data_size": 24}
    }  # fmt: skip
    assert np.frombuffer(answer.content[length:], "<f4").tolist() == [6.5, 1, 2, 15.25, 1, 2]
    assert answer.headers["content-type"] == "application/octet-stream"


def read(message: Any, *data: bytes, of: dict[str, Any] = VECTOR, length: str | None = None) -> dict[str, np.ndarray]:
    body, headers = binary(message, *data)
    given = headers[HEADER_LENGTH] if data else None
    return dict(Inference(loaded(of), body, length if length is not None else given).parse())


def test_several_inputs_are_taken_in_their_order_in_json_and_in_binary():
    ids, flags = np.array([7, 8], np.int32), np.array([[1, 0], [0, 1]], bool)
    message = {
        "inputs": [
            as_bytes(ids, "INT32", "ids"),
            tensor([[1, 2], [3, 4]], "FP64", "a"),
            as_bytes(flags, "BOOL", "flags"),
        ]
    }
    found = read(message, ids.tobytes(), flags.tobytes(), of=TWO)
    assert found["ids"].tolist() == [7, 8]
    assert found["ids"].dtype == np.int64
    assert found["a"].tolist() == [[1, 2], [3, 4]]
    assert found["flags"].tolist() == flags.tolist()


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("in_binary", [False, True])
def test_every_datatype_of_numbers_is_taken(datatype, in_binary):
    values = np.array([[1, 0, 1]], DATATYPES[datatype])
    entry = as_bytes(values, datatype) if in_binary else tensor(values, datatype)
    assert read({"inputs": [entry]}, *([values.tobytes()] if in_binary else []))["input"].tolist() == [[1, 0, 1]]


@pytest.mark.parametrize("datatype", ["BYTES", "BF16"])
def test_datatypes_that_no_model_here_takes_are_refused_by_name(client, datatype):
    answer = client.post(INFER, json={"inputs": [tensor(datatype=datatype)]})
    assert answer.status_code == 400
    assert datatype in answer.json()["error"]


BAD_TENSORS: list[Any] = [
    1, {}, {"name": "input"}, tensor(datatype="FP8"), tensor(datatype=None), tensor(shape=None), tensor(shape=[]),
    tensor(shape=[2, -3]), tensor(shape=[2, 3.0]), tensor(shape=[True, 6]), tensor(shape=[3, 3]),
    tensor(shape=[2**62, 2**62]),
    tensor(shape=[1] * 17), tensor(shape=[6]), tensor(shape=[0, 3], data=[]), tensor(data=None), tensor(data="text"),
    tensor(data=[1, 2, 3, 4, 5]), tensor(data=[1, 2, 3, 4, 5, None]), tensor(data=[1, 2, 3, 4, 5, "x"]),
    tensor(data=[[1, 2, 3], [4, 5]]), tensor(data=[[1, 2, 3], 4]), tensor(data=[1, 2, 3, 4, 5, [6]]),
    tensor(data=[1e39] * 6),
    tensor(name="other"), tensor(parameters=1), tensor(parameters={"shared_memory_region": "x"}),
    tensor(parameters={"binary_data_size": 24}), tensor(parameters={"binary_data_size": "24"}),
    tensor([[1, 2, 300]], "UINT8"), tensor([[1, 2, -129]], "INT8"), tensor([[1, 2, 2**63]], "UINT64"),
    tensor([[1, 2, 1.5]], "INT32"), tensor([[0, 1, 2]], "BOOL"),
]  # fmt: skip


@pytest.mark.parametrize("entry", BAD_TENSORS, ids=range(len(BAD_TENSORS)))
def test_a_tensor_that_is_not_what_it_says_is_refused(client, entry):
    answer = client.post(INFER, json={"inputs": [entry]})
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize(
    "message",
    [
        [], 1, "x", None, {}, {"inputs": []}, {"inputs": {}}, {"inputs": [tensor(), tensor()]},
        {"id": 3, "inputs": [tensor()]},
        {"id": "x" * 1025, "inputs": [tensor()]}, {"inputs": [tensor()], "parameters": []},
        {"inputs": [tensor()], "parameters": {"binary_data_output": 1}}, {"inputs": [tensor()], "outputs": 1},
        {"inputs": [tensor()], "outputs": ["probabilities"]}, {"inputs": [tensor()], "outputs": [{"name": "other"}]},
        {"inputs": [tensor()], "outputs": [{"name": "probabilities"}] * 2},
        {"inputs": [tensor()], "outputs": [{"name": "probabilities", "parameters": {"classification": 2}}]},
        {"inputs": [tensor()], "outputs": [{"name": "probabilities", "parameters": {"shared_memory_region": "x"}}]},
    ],
)  # fmt: skip
def test_a_request_that_is_not_of_the_protocol_is_refused(client, message):
    answer = client.post(INFER, json=message)
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize(
    ("data", "length"),
    [((ROWS.tobytes(), b"x"), None), ((ROWS.tobytes()[:-1],), None), ((), None), ((ROWS.tobytes(),), "-1"),
     ((ROWS.tobytes(),), "x"), ((ROWS.tobytes(),), "999999"), ((ROWS.tobytes(),), "0"), ((ROWS.tobytes(),), "1e2"),
     ((ROWS.tobytes(),), "9" * 40), ((ROWS.tobytes(),), "٣")],
)  # fmt: skip
def test_binary_data_that_do_not_fit_their_sizes_are_refused(data, length):
    with pytest.raises(ProtocolError) as caught:
        read({"inputs": [as_bytes(ROWS, "FP32")]}, *data, length=length)
    assert caught.value.status == 400


def test_a_binary_size_that_is_not_the_shapes_is_refused():
    entry = {**as_bytes(ROWS, "FP32"), "shape": [1, 3]}
    with pytest.raises(ProtocolError, match="24 bytes; float32 of shape"):
        read({"inputs": [entry]}, ROWS.tobytes())


def test_what_is_not_finite_is_refused_with_its_index(client):
    rows = ROWS.copy()
    rows[1, 2] = np.nan
    body, headers = binary({"inputs": [as_bytes(rows, "FP32")]}, rows.tobytes())
    answer = client.post(INFER, content=body, headers=headers)
    assert (answer.status_code, "input[1][2]" in answer.json()["error"]) == (400, True)


def test_errors_below_v2_have_the_form_of_the_protocol_whatever_goes_wrong(tmp_path):
    with asked(tmp_path, loaded(max_body=300)) as (client, service):
        answers = [
            (404, client.get("/v2/nope")), (405, client.get(INFER)), (405, client.post("/v2")),
            (413, client.post(INFER, content=b"x" * 301)), (400, client.post(INFER, content=b"{")),
            (403, client.post(INFER, json={}, headers={"Origin": "http://evil.example"})),
            (415, client.post(INFER, content=b"x", headers={"Content-Encoding": "br"})),
            (400, client.post(INFER, json={}, headers={"X-Request-Id": "a b"})),
        ]  # fmt: skip
        service.engine.current.predictor.predict = lambda inputs: {}["gone"]
        answers.append((500, client.post(INFER, json={"id": "failed", "inputs": [tensor(ROWS[:1])]})))
        for status, answer in answers:
            assert answer.status_code == status
            assert list(answer.json()) == ["error"]
    assert window(tmp_path / "journal", 0, 1).request_id.tolist() == ["failed"]


def test_a_picture_comes_through_in_every_form(tmp_path):
    values = np.arange(2 * 60, dtype=np.float32).reshape(2, 3, 4, 5)
    with asked(tmp_path, loaded(PICTURE)) as (client, _):
        expected = [float(values[0].sum()), float(values[1].sum())]
        body, headers = binary({"inputs": [as_bytes(values, "FP32")]}, values.tobytes())
        for answer in (
            client.post(INFER, json={"inputs": [tensor(values)]}),
            client.post(INFER, json={"inputs": [tensor(values, data=values.tolist())]}),
            client.post(INFER, content=body, headers=headers),
        ):
            assert answer.json()["outputs"][0]["data"][::3] == expected


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "shape", "datatype", "data", "parameters", "binary_data_size"]), inner
        )
    ),
    max_leaves=10,
)


@settings(max_examples=120)
@given(changes=st.dictionaries(st.sampled_from(["name", "shape", "datatype", "data", "parameters"]), JSON_VALUES),
       of=st.sampled_from([VECTOR, TWO, spec(ids=("int64", []))]), tail=st.binary(max_size=30))  # fmt: skip
def test_any_tensor_is_read_as_the_model_takes_it_or_refused_without_the_payload(changes, of, tail):
    marker = "SECRETPAYLOAD"
    message = {"inputs": [tensor(**changes)], marker: marker}
    try:
        found = read(message, *([tail] if tail else []), of=of)
    except ProtocolError as refusal:
        error = refusal
    else:
        error = None
    if error is not None:
        assert error.status in (400, 413)
        assert marker not in str(error)
        return
    assert {name: values.dtype.name for name, values in found.items()} == {
        wanted["name"]: wanted["dtype"] for wanted in of["inputs"]
    }


@settings(max_examples=60)
@given(body=st.binary(max_size=80), length=st.none() | st.integers(-1, 90).map(str))
def test_any_bytes_are_refused_in_an_orderly_way(body, length):
    with pytest.raises(ProtocolError) as caught:
        Inference(loaded(), body, length).parse()
    assert caught.value.status == 400


def test_json_of_too_many_values_is_refused_before_it_is_parsed(tmp_path):
    with asked(tmp_path, loaded(max_elements=20)) as (client, _):
        many = client.post(INFER, json={"inputs": [tensor(np.ones((40, 3), np.float32))]})
        assert many.status_code == 413
        assert "values" in many.json()["error"]
        assert client.post(INFER, json={"inputs": [tensor(ROWS[:1])]}).status_code == 200
