"""The body of POST /labels: a list of true classes for rows that were answered."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import orjson

from trimtab.errors import ProtocolError
from trimtab.journal.rows import LabelRow
from trimtab.serving.media import JSON, media_type
from trimtab.serving.request_id import valid_id

_KEYS = {"request_id", "row", "label"}
_MAX_ROW = 2**31


def parse_labels(
    body: bytes, content_type: str | None, classes: int | None, regression: bool = False
) -> list[LabelRow]:
    """Labels as they are to be recorded; all or none.

    Args:
        body: [{"request_id": ..., "row": 0, "label": 3}, ...]; `row` may be left out, it is 0 then.
        classes: number of classes, None before a release is loaded; of a regression, numbers a row.
        regression: whether a label is a number, of one output.

    Raises:
        ProtocolError: not such a list; the index of the first bad entry is named.
    """
    if media_type(content_type) != JSON:
        raise ProtocolError(f"must be {JSON}", where="Content-Type", code="BAD_REQUEST", status=415)
    try:
        entries = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ProtocolError(
            "the body is not valid JSON", where=f"line {error.lineno}, column {error.colno}", code="BAD_REQUEST"
        ) from None
    if not isinstance(entries, list):
        raise ProtocolError("the body must be a list of {request_id, row, label}", code="BAD_REQUEST")
    if regression and classes != 1:
        raise ProtocolError(
            f"labels of {classes} outputs are not taken yet: of such a model only drift is watched", code="BAD_REQUEST"
        )
    now = time.time_ns()
    return [
        _label(entry, f"[{index}]", now, None if regression else classes, regression)
        for index, entry in enumerate(entries)
    ]


def _label(entry: Any, where: str, now: int, classes: int | None, regression: bool) -> LabelRow:
    if not isinstance(entry, dict) or not {"request_id", "label"} <= entry.keys() <= _KEYS:
        raise ProtocolError("must have request_id, label and perhaps row", where=where)
    request_id, row, label = entry["request_id"], entry.get("row", 0), entry["label"]
    if not isinstance(request_id, str) or not valid_id(request_id):
        raise ProtocolError("is not a request id", where=f"{where}.request_id")
    if type(row) is not int or not 0 <= row < _MAX_ROW:
        raise ProtocolError("must be a whole number, 0 or more", where=f"{where}.row")
    if regression:
        return LabelRow(request_id, row, _number(label, where), now)
    if type(label) is not int or not 0 <= label < (classes if classes is not None else _MAX_ROW):
        raise ProtocolError(
            f"must be a class index below {classes if classes is not None else _MAX_ROW}", where=f"{where}.label"
        )
    return LabelRow(request_id, row, label, now)


def _number(label: Any, where: str) -> float:
    finite = type(label) in (int, float) and abs(label) <= float(np.finfo(np.float32).max)
    if not finite:
        raise ProtocolError("must be a finite number", where=f"{where}.label")
    return float(label)
