"""What the client sends and what it makes of answers."""

from __future__ import annotations

import json
import pickle
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from trimtab.client import (
    BadAnswer,
    DeadlineExceeded,
    Label,
    ModelFailed,
    NotAllowed,
    Refused,
    ScoringError,
    Unavailable,
    wire,
)
from trimtab.errors import DataError, TrimtabError

NAMED = wire.asking("r1", None)


def response(status: int, body: Any, headers: dict[str, str] | None = None) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = httpx.Request("POST", "http://service/invocations")
    return httpx.Response(status, content=content, headers=headers or {}, request=request)


def test_named_arrays_are_sent_as_the_inputs_form() -> None:
    call = wire.predict_call({"a": np.array([[1.5], [2.0]], np.float32), "b": np.array([3, 4])}, "json", NAMED)

    assert (call.method, call.path) == ("POST", "/invocations")
    assert json.loads(call.content) == {"inputs": {"a": [[1.5], [2.0]], "b": [3, 4]}}
    assert call.headers == {"X-Request-Id": "r1", "Content-Type": "application/json"}


def test_one_array_is_sent_without_a_name() -> None:
    assert json.loads(wire.predict_call(np.ones((1, 2)), "json", NAMED).content) == {"inputs": [[1.0, 1.0]]}


@given(
    nps.arrays(
        np.float32,
        nps.array_shapes(max_dims=3, max_side=4),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_every_float32_arrives_bit_for_bit_as_json_and_as_bytes(values: np.ndarray) -> None:
    read = np.array(json.loads(wire.predict_call(values, "json", NAMED).content)["inputs"], np.float64)
    call = wire.predict_call(values, "binary", NAMED)
    shape = [int(size) for size in call.headers["X-Trimtab-Shape"].split(",")]

    np.testing.assert_array_equal(read.astype(np.float32), values)
    np.testing.assert_array_equal(np.frombuffer(call.content, "<f4").reshape(shape), values)
    assert call.headers["X-Trimtab-Dtype"] == "float32"


def test_several_tensors_in_one_body_are_described_in_their_order() -> None:
    call = wire.predict_call({"a": np.ones((2, 3), np.float32), "b": np.array([1, 2])}, "binary", NAMED)

    assert call.headers["X-Trimtab-Input"] == "a;b"
    assert call.headers["X-Trimtab-Shape"] == "2,3;2"
    assert call.headers["X-Trimtab-Dtype"] == "float32;int64"
    assert len(call.content) == 2 * 3 * 4 + 2 * 8


@pytest.mark.parametrize(
    "values",
    [
        np.array([[1, 2], [3, 4]], ">i4"),
        np.asfortranarray(np.array([[1.0, 2.0], [3.0, 4.0]])),
        np.array([[1.0, 2.0], [3.0, 4.0]], np.float16),
        np.array([[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]])[:2],
        np.array([[True, False], [False, True]]),
    ],
)
@pytest.mark.parametrize("encoding", ["json", "binary"])
def test_any_memory_layout_and_width_is_sent(values: np.ndarray, encoding: Any) -> None:
    call = wire.predict_call(values, encoding, NAMED)
    if encoding == "json":
        sent = np.array(json.loads(call.content)["inputs"])
    else:
        dtype = np.dtype(call.headers["X-Trimtab-Dtype"]).newbyteorder("<")
        sent = np.frombuffer(call.content, dtype).reshape(2, 2)

    np.testing.assert_array_equal(sent, values)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_json_cannot_hold_is_refused_with_its_place(bad: float) -> None:
    values = np.zeros((2, 3))
    values[1, 2] = bad

    with pytest.raises(DataError, match="not a finite number") as caught:
        wire.predict_call({"x": values}, "json", NAMED)
    assert caught.value.where == "input 'x'[1][2]"


@pytest.mark.parametrize("values", [np.array(["a"]), np.array([None]), 3.0, np.array([1 + 2j])])
def test_what_is_no_array_of_numbers_is_refused(values: Any) -> None:
    with pytest.raises(DataError, match="of shape"):
        wire.predict_call({"x": values}, "json", NAMED)


@pytest.mark.parametrize("name", ["", "a b", "x" * 129, "é", "a\r\nb"])
def test_a_request_id_that_the_service_refuses_is_not_sent(name: str) -> None:
    with pytest.raises(DataError, match="letters"):
        wire.asking(name, None)


def test_who_is_to_answer_is_said_only_where_it_is_asked() -> None:
    assert "X-Trimtab-Alias" not in wire.asking(None, None)
    assert wire.asking(None, "champion")["X-Trimtab-Alias"] == "champion"
    assert len(wire.asking(None, None)["X-Request-Id"]) == 32


def test_an_answer_has_arrays_version_request_and_journal() -> None:
    said = {"X-Request-Id": "r9", "X-Trimtab-Version": "7", "X-Trimtab-Journal": "durable"}
    answer = wire.read_answer(response(200, {"predictions": {"probabilities": [[0.25, 0.75]]}}, said), "r1")

    np.testing.assert_array_equal(answer.outputs["probabilities"], [[0.25, 0.75]])
    assert (answer.version, answer.request_id, answer.journal) == ("7", "r9", "durable")


def test_a_server_that_says_no_version_leaves_it_open() -> None:
    answer = wire.read_answer(response(200, {"predictions": {"p": [[1]]}}), "r1")

    assert (answer.version, answer.request_id, answer.journal) == (None, "r1", None)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b"{}",
        {"predictions": [1]},
        {"predictions": {"p": [[1], [2, 3]]}},
        {"predictions": {"p": ["a"]}},
    ],
)
def test_an_answer_that_no_scoring_service_gives_is_told(body: Any) -> None:
    with pytest.raises(BadAnswer):
        wire.read_answer(response(200, body), "r1")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Refused), (404, Refused), (413, Refused), (415, Refused), (401, NotAllowed), (403, NotAllowed),
        (408, DeadlineExceeded), (504, DeadlineExceeded), (429, Unavailable), (503, Unavailable), (500, ModelFailed),
        (302, BadAnswer), (502, BadAnswer),
    ],
)  # fmt: skip
def test_each_status_is_an_error_of_its_kind_with_status_code_and_message(
    status: int, kind: type[ScoringError]
) -> None:
    error = wire.failure(response(status, {"error_code": "SOME_CODE", "message": "what was wrong"}))

    assert type(error) is kind
    assert isinstance(error, TrimtabError)
    assert (error.status, error.code, error.message) == (status, "SOME_CODE", "what was wrong")


@pytest.mark.parametrize("body", [b"", b"upstream timed out", b"[1]", b'{"message": "x"}'])
def test_an_error_of_something_in_between_is_told_by_its_status(body: bytes) -> None:
    error = wire.failure(response(503, body))

    assert (error.message, error.code) == ("answered 503", "")


def test_an_error_survives_another_process() -> None:
    error = pickle.loads(pickle.dumps(Refused("bad", status=400, code="BAD_REQUEST", where="http://x", fix="mend")))  # noqa: S301

    assert (type(error), error.status, error.code, error.where) == (Refused, 400, "BAD_REQUEST", "http://x")


def test_labels_are_sent_with_row_and_value() -> None:
    call = wire.labels_call([Label("a", 3), Label("b", np.int64(1), row=2)])  # type: ignore[arg-type]

    assert json.loads(call.content) == [
        {"request_id": "a", "row": 0, "label": 3},
        {"request_id": "b", "row": 2, "label": 1},
    ]
    counts = wire.read_labels(response(202, {"accepted": 2, "known": 1, "unknown": 1}))
    assert (counts.accepted, counts.known, counts.unknown) == (2, 1, 1)
    with pytest.raises(BadAnswer):
        wire.read_labels(response(202, {"accepted": "two"}))


def test_what_serves_is_read_with_all_its_facts() -> None:
    served = wire.read_served(response(200, {"name": "digits", "version": "3", "champion": 4, "target": "x"}))

    assert (served.name, served.version, served.champion, served.facts["target"]) == ("digits", "3", 4, "x")
    assert wire.read_served(response(200, {"name": "digits", "version": None})).version is None
    with pytest.raises(BadAnswer):
        wire.read_served(response(200, {"version": "3"}))
