"""What goes over the wire: arrays into a request, an answer into arrays, and an error into one of ours."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
import numpy as np
import orjson

from trimtab.client.errors import (
    BadAnswer,
    DeadlineExceeded,
    ModelFailed,
    NotAllowed,
    Refused,
    ScoringError,
    Unavailable,
)
from trimtab.client.retrying import RETRIED
from trimtab.errors import DataError

Array = np.ndarray
Inputs = Mapping[str, Array] | Array
Encoding = Literal["json", "binary"]
REQUEST_ID, VERSION, JOURNAL = "X-Request-Id", "X-Trimtab-Version", "X-Trimtab-Journal"
ALIAS = "X-Trimtab-Alias"
SHAPE, DTYPE, INPUT = "X-Trimtab-Shape", "X-Trimtab-Dtype", "X-Trimtab-Input"
_NAME = re.compile(r"[A-Za-z0-9._:-]{1,128}")  # as in `serving.request_id`
JSON_TYPE, BINARY_TYPE = "application/json", "application/octet-stream"


@dataclass(frozen=True)
class Call:
    """One HTTP request, without its address."""

    method: str
    path: str
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What the service answered.

    Attributes:
        outputs: name → array (batch, ...), e.g. "probabilities" (batch, classes); float64 that hold the model's own
            float32 numbers exactly, or int64.
        version: of the release that answered; None where the server does not say (stock MLflow).
        request_id: under which labels are given later.
        journal: "durable", or "shed" where the journal could not take the rows; None where none is kept.
    """

    outputs: Mapping[str, Array]
    version: str | None
    request_id: str
    journal: str | None


@dataclass(frozen=True)
class Label:
    """The truth about one row that was answered: a class index, of a regression a number."""

    request_id: str
    label: int | float
    row: int = 0


@dataclass(frozen=True)
class LabelCounts:
    """How many labels were taken, and of how many the journal held the row."""

    accepted: int
    known: int
    unknown: int


@dataclass(frozen=True)
class Served:
    """What /version says; `facts` is all of it."""

    name: str
    version: str | None
    champion: int | None
    facts: Mapping[str, Any]


def predict_call(inputs: Inputs, encoding: Encoding, headers: Mapping[str, str]) -> Call:
    """POST /invocations with arrays.

    Args:
        inputs: name → array (batch, ...), or one array where the model has one input.
        encoding: "binary" sends the arrays' bytes, "json" their numbers as text.
        headers: as `asking` gives them.

    Raises:
        DataError: not numbers, not finite, or without an axis of rows.
    """
    if encoding == "binary":
        return _binary_call(inputs, headers)
    if isinstance(inputs, Mapping):
        return form_call({"inputs": {name: _plain(name, values) for name, values in inputs.items()}}, headers)
    return form_call({"inputs": _plain("input", inputs)}, headers)


def form_call(form: Mapping[str, Any], headers: Mapping[str, str]) -> Call:
    """POST /invocations with any of its JSON forms: `instances`, `inputs`, `dataframe_split`, `dataframe_records`."""
    return Call("POST", "/invocations", _json(form), {**headers, "Content-Type": JSON_TYPE})


def labels_call(labels: Iterable[Label]) -> Call:
    """POST /labels."""
    entries = [{"request_id": one.request_id, "row": one.row, "label": one.label} for one in labels]
    return Call("POST", "/labels", _json(entries), {"Content-Type": JSON_TYPE})


def read_answer(response: httpx.Response, request_id: str) -> Answer:
    """The answer to POST /invocations.

    Raises:
        ScoringError: of the kind its status means; BadAnswer for one that is not a scoring service's.
    """
    predictions = read_object(response).get("predictions")
    if not isinstance(predictions, dict):
        raise _strange(response, "has no predictions by name")
    try:
        outputs = {str(name): np.asarray(values) for name, values in predictions.items()}
    except ValueError:
        raise _strange(response, "has ragged predictions") from None
    if any(values.dtype.kind not in "biuf" for values in outputs.values()):
        raise _strange(response, "has predictions that are not numbers")
    headers = response.headers
    return Answer(outputs, headers.get(VERSION), headers.get(REQUEST_ID, request_id), headers.get(JOURNAL))


def read_labels(response: httpx.Response) -> LabelCounts:
    """The answer to POST /labels."""
    found = read_object(response)
    try:
        return LabelCounts(int(found["accepted"]), int(found["known"]), int(found["unknown"]))
    except (KeyError, TypeError, ValueError):
        raise _strange(response, "does not say how many labels were taken") from None


def read_served(response: httpx.Response) -> Served:
    """The answer to GET /version."""
    found = read_object(response)
    if not isinstance(found.get("name"), str):
        raise _strange(response, "does not say what it serves")
    version, champion = found.get("version"), found.get("champion")
    return Served(found["name"], None if version is None else str(version), champion, found)


def read_object(response: httpx.Response) -> dict[str, Any]:
    """The JSON object of a good answer (2xx).

    Raises:
        ScoringError: of the kind its status means; BadAnswer for what is no JSON object.
    """
    if not response.is_success:
        raise failure(response)
    try:
        value = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise _strange(response, "is not a JSON object")
    return value


def failure(response: httpx.Response) -> ScoringError:
    """The error that an answer with a bad status means."""
    status, code, message = response.status_code, "", f"answered {response.status_code}"
    try:
        said = orjson.loads(response.content)
        code, message = str(said["error_code"]), str(said["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        pass  # not in the service's form, e.g. of a proxy: the status is told
    kind = _kind(status, code)
    fix = {NotAllowed: "give the service's token", BadAnswer: "see what listens there"}.get(kind, "")
    return kind(message, status=status, code=code, where=_where(response), fix=fix)


def _kind(status: int, code: str) -> type[ScoringError]:
    if status in RETRIED:
        return Unavailable
    if status in (408, 504) or code == "DEADLINE_EXCEEDED":
        return DeadlineExceeded
    if status in (401, 403):
        return NotAllowed
    if 400 <= status < 500:
        return Refused
    return ModelFailed if status == 500 else BadAnswer


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError as error:
        raise DataError(f"cannot be written as JSON: {error}", where="request", fix="give plain numbers") from None


def _binary_call(inputs: Inputs, headers: Mapping[str, str]) -> Call:
    """The bytes of every tensor one after another; of several, each header names all, parted by ";"."""
    named = dict(inputs) if isinstance(inputs, Mapping) else {"input": inputs}
    if not named:
        raise DataError("is empty", where="inputs", fix="give name → array")
    arrays = {name: _plain(name, values) for name, values in named.items()}
    described = {
        SHAPE: ";".join(",".join(map(str, array.shape)) for array in arrays.values()),
        DTYPE: ";".join(array.dtype.name for array in arrays.values()),
        **({INPUT: ";".join(arrays)} if isinstance(inputs, Mapping) else {}),
    }
    little = (array.astype(array.dtype.newbyteorder("<"), copy=False) for array in arrays.values())
    content = b"".join(array.tobytes() for array in little)
    return Call("POST", "/invocations", content, {**headers, "Content-Type": BINARY_TYPE, **described})


def _plain(name: str, values: Any) -> Array:
    """Numbers as JSON and the wire have them: C order, this machine's byte order, floats of 4 or 8 bytes, finite."""
    array = np.asarray(values)
    if array.ndim == 0 or array.dtype.kind not in "biuf":
        raise DataError(
            f"is {array.dtype} of shape {array.shape}", where=f"input {name!r}", fix="give numbers (batch, ...)"
        )
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            index = np.argwhere(~np.isfinite(array))[0]
            place = "".join(f"[{at}]" for at in index)
            raise DataError(
                "is not a finite number", where=f"input {name!r}{place}", fix="fill in missing values, or drop the row"
            )
        if array.dtype.itemsize not in (4, 8):
            array = array.astype(np.float32 if array.dtype.itemsize < 4 else np.float64)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def asking(request_id: str | None, alias: str | None) -> dict[str, str]:
    """Headers of a request: its name, a new one for None, and who is to answer.

    Raises:
        DataError: the name has characters that the service refuses, or is too long.
    """
    if request_id is not None and not _NAME.fullmatch(request_id):
        raise DataError("must be 1 to 128 letters, digits and . _ : -", where="request_id", fix="choose another one")
    return {REQUEST_ID: request_id or uuid.uuid4().hex, **({} if alias is None else {ALIAS: alias})}


def _where(response: httpx.Response) -> str:
    return str(response.request.url)


def _strange(response: httpx.Response, what: str) -> BadAnswer:
    return BadAnswer(
        f"the answer {what}", status=response.status_code, where=_where(response), fix="see what listens there"
    )
