"""Every form of a scoring request, and every deliberate difference from stock MLflow: the one place that says which.

A form is sent to both servers. Where `DIFFERENCES` does not name it, both must answer with the same class of status,
the same error code (where stock gives one) and the same numbers; where it does, exactly as it says, and `row` must
stand in the table of docs/serving.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

JSON, CSV = "application/json", "text/csv"
IGNORED, INVALID, BAD = None, "INVALID_PARAMETER_VALUE", "BAD_REQUEST"


@dataclass(frozen=True)
class Form:
    """One request to the model `model` of parity_world."""

    model: str
    name: str
    body: bytes
    content_type: str | None = JSON

    def __str__(self) -> str:
        return f"{self.model}-{self.name}"


@dataclass(frozen=True)
class Difference:
    """What each server answers: status, and error code where it has one; and the row of the docs that says why."""

    stock: tuple[int, str | None]
    ours: tuple[int, str | None]
    row: str


def _form(model: str, name: str, value: Any, content_type: str | None = JSON) -> Form:
    return Form(model, name, value if isinstance(value, bytes) else json.dumps(value).encode(), content_type)


ROWS = [[1.5, 2, 3], [4, 5, 6.25]]
CELLS = [[row] for row in ROWS]
VECTOR = [
    _form("vector", "inputs as a list", {"inputs": ROWS}),
    _form("vector", "inputs by name", {"inputs": {"x": ROWS}}),
    _form("vector", "instances as a list", {"instances": ROWS}),
    _form("vector", "instances by name", {"instances": {"x": ROWS}}),
    _form("vector", "instances as objects", {"instances": [{"x": row} for row in ROWS]}),
    _form("vector", "split with cells", {"dataframe_split": {"columns": ["x"], "data": CELLS}}),
    _form("vector", "split with an index", {"dataframe_split": {"columns": ["x"], "index": [0, 1], "data": CELLS}}),
    _form(
        "vector", "split with another index", {"dataframe_split": {"columns": ["x"], "index": [5, 6], "data": CELLS}}
    ),
    _form("vector", "records with cells", {"dataframe_records": [{"x": row} for row in ROWS]}),
    _form("vector", "split with features", {"dataframe_split": {"columns": ["u", "v", "w"], "data": ROWS}}),
    _form("vector", "split without columns", {"dataframe_split": {"data": ROWS}}),
    _form("vector", "records with features", {"dataframe_records": [{"u": 1, "v": 2, "w": 3}]}),
    _form("vector", "CSV with features", b"u,v,w\n1.5,2,3\n4,5,6.25\n", CSV),
    _form("vector", "CSV with a list in a cell", b'x\n"[1.5, 2, 3]"\n', CSV),
    _form("vector", "CSV of the wrong columns", b"u,v\n1.5,2\n", CSV),
    _form("vector", "an empty CSV", b"", CSV),
    _form("vector", "CSV that is not UTF-8", b"u,v,w\n\xff\xfe,2,3\n", CSV),
    _form("vector", "params that nothing takes", {"inputs": ROWS, "params": {"temperature": 1}}),
    _form("vector", "no params", {"inputs": ROWS, "params": {}}),
    _form("vector", "null params", {"inputs": ROWS, "params": None}),
    _form("vector", "params that are no object", {"inputs": ROWS, "params": [1]}),
    _form("vector", "a key that nothing takes", {"inputs": ROWS, "signature_name": "a", "other": 1}),
    _form("vector", "a key of a language model's", {"inputs": ROWS, "prompt": "a"}),
    _form("vector", "numeric strings", {"inputs": [["1.5", "2", "3e0"]]}),
    _form("vector", "bools", {"inputs": [[True, False, True]]}),
    _form("vector", "whole numbers", {"inputs": [[1, 2, 3]]}),
    _form("vector", "null", {"inputs": [[1, None, 3]]}),
    _form("vector", "NaN", b'{"inputs": [[1, NaN, 3]]}'),
    _form("vector", "infinity", b'{"inputs": [[1, Infinity, 3]]}'),
    _form("vector", "too large for float32", {"inputs": [[1, 1e39, 3]]}),
    _form("vector", "too large for float64", b'{"inputs": [[1, 1e400, 3]]}'),
    _form("vector", "ragged", {"inputs": [[1, 2, 3], [1, 2]]}),
    _form("vector", "text", {"inputs": [[1, "x", 3]]}),
    _form("vector", "an object in place of a number", {"inputs": [[1, {}, 3]]}),
    _form("vector", "torn JSON", b'{"inputs": [[1, 2'),
    _form("vector", "a stray bracket", b'{"data": 0.0199132142]}'),
    _form("vector", "an empty body", b""),
    _form("vector", "bytes that are no text", b"\xff\xfe\xfa"),
    _form("vector", "JSON with a byte order mark", b"\xef\xbb\xbf" + json.dumps({"inputs": ROWS}).encode()),
    _form("vector", "JSON in UTF-16", json.dumps({"inputs": ROWS}).encode("utf-16")),
    _form("vector", "a list", ROWS),
    _form("vector", "a number", 3),
    _form("vector", "null itself", None),
    _form("vector", "no form", {"rows": ROWS}),
    _form("vector", "two forms", {"inputs": ROWS, "instances": ROWS}),
    _form("vector", "another name", {"inputs": {"other": ROWS}}),
    _form("vector", "an unknown input", {"inputs": {"x": ROWS, "other": [1, 2]}}),
    _form("vector", "an unknown input of an instance", {"instances": [{"x": [1, 2, 3], "other": 1}]}),
    _form("vector", "an unknown column", {"dataframe_split": {"columns": ["x", "o"], "data": [[[1, 2, 3], 1]]}}),
    _form("vector", "too few values", {"inputs": [[1, 2]]}),
    _form("vector", "too many values", {"inputs": [[1, 2, 3, 4]]}),
    _form("vector", "too few axes", {"inputs": [1, 2, 3]}),
    _form("vector", "too many axes", {"inputs": [ROWS]}),
    _form("vector", "no rows", {"inputs": []}),
    _form("vector", "no rows by name", {"inputs": {"x": []}}),
    _form("vector", "no instances", {"instances": []}),
    _form("vector", "no records", {"dataframe_records": []}),
    _form("vector", "a split without rows", {"dataframe_split": {"columns": ["x"], "data": []}}),
    _form("vector", "inputs as objects", {"inputs": [{"x": [1, 2, 3]}]}),
    _form("vector", "inputs as a number", {"inputs": 3}),
    _form("vector", "inputs as text", {"inputs": "text"}),
    _form("vector", "null inputs", {"inputs": None}),
    _form("vector", "a split as a list", {"dataframe_split": ROWS}),
    _form("vector", "a split without data", {"dataframe_split": {"columns": ["x"]}}),
    _form("vector", "a split with an unknown key", {"dataframe_split": {"columns": ["x"], "data": CELLS, "o": 1}}),
    _form("vector", "a ragged split", {"dataframe_split": {"columns": ["x"], "data": [[[1, 2, 3]], []]}}),
    _form("vector", "records as an object", {"dataframe_records": {"x": [1, 2, 3]}}),
    _form("vector", "records as numbers", {"dataframe_records": [1]}),
    _form("vector", "charset utf-8", {"inputs": ROWS}, "application/json; charset=utf-8"),
    _form("vector", "charset UTF-8", {"inputs": ROWS}, "application/json;charset=UTF-8"),
    _form("vector", "a quoted charset", {"inputs": ROWS}, 'application/json; charset="utf-8"'),
    _form("vector", "charset latin-1", {"inputs": ROWS}, "application/json; charset=latin-1"),
    _form("vector", "an unknown parameter", {"inputs": ROWS}, "application/json; version=2"),
    _form("vector", "an upper-case type", {"inputs": ROWS}, "Application/JSON"),
    _form("vector", "text/plain", {"inputs": ROWS}, "text/plain"),
    _form("vector", "no content type", {"inputs": ROWS}, None),
]
A, IDS = [[1, 2], [3, 4.5]], [7, 8]
SEVERAL = [
    _form("several", "inputs by name", {"inputs": {"a": A, "ids": IDS}}),
    _form("several", "inputs by name in another order", {"inputs": {"ids": IDS, "a": A}}),
    _form("several", "instances by name", {"instances": {"a": A, "ids": IDS}}),
    _form("several", "instances as objects", {"instances": [{"a": a, "ids": i} for a, i in zip(A, IDS, strict=True)]}),
    _form("several", "split", {"dataframe_split": {"columns": ["ids", "a"], "data": [[7, [1, 2]], [8, [3, 4.5]]]}}),
    _form("several", "records", {"dataframe_records": [{"a": [1, 2], "ids": 7}, {"ids": 8, "a": [3, 4.5]}]}),
    _form("several", "inputs as a list", {"inputs": A}),
    _form("several", "instances as a list", {"instances": A}),
    _form("several", "one missing", {"inputs": {"a": A}}),
    _form("several", "one missing of an instance", {"instances": [{"a": [1, 2], "ids": 7}, {"a": [3, 4]}]}),
    _form("several", "one missing of a record", {"dataframe_records": [{"a": [1, 2], "ids": 7}, {"a": [3, 4]}]}),
    _form("several", "inputs of different lengths", {"inputs": {"a": A, "ids": [7, 8, 9]}}),
    _form("several", "instances of different lengths", {"instances": {"a": A, "ids": [7, 8, 9]}}),
    _form("several", "a fraction for an integer", {"inputs": {"a": A, "ids": [7, 1.5]}}),
    _form("several", "a whole float for an integer", {"inputs": {"a": A, "ids": [7.0, 8.0]}}),
    _form("several", "a numeric string for an integer", {"inputs": {"a": A, "ids": ["7", "8"]}}),
    _form("several", "bools for integers", {"inputs": {"a": A, "ids": [True, False]}}),
    _form("several", "too large for int64", {"inputs": {"a": A, "ids": [7, 2**63]}}),
    _form("several", "null for an integer", {"inputs": {"a": A, "ids": [7, None]}}),
    _form("several", "a column for a flat input", {"inputs": {"a": A, "ids": [[7], [8]]}}),
    _form("several", "a number for a flat input", {"inputs": {"a": A, "ids": 7}}),
]
IMAGE_ROWS = [[[[1, 2], [3, 4.5]]], [[[5, 6], [7, 8]]]]
IMAGE = [
    _form("image", "inputs as a list", {"inputs": IMAGE_ROWS}),
    _form("image", "instances as a list", {"instances": IMAGE_ROWS}),
    _form("image", "instances as objects", {"instances": [{"pixels": row} for row in IMAGE_ROWS]}),
    _form("image", "split with flat cells", {"dataframe_split": {"columns": ["pixels"], "data": [[[1, 2, 3, 4.5]]]}}),
    _form("image", "records with flat cells", {"dataframe_records": [{"pixels": [1, 2, 3, 4.5]}]}),
    _form("image", "records with nested cells", {"dataframe_records": [{"pixels": IMAGE_ROWS[0]}]}),
    _form("image", "records with a scalar", {"dataframe_records": [{"pixels": 1}]}),
    _form("image", "one image without its batch", {"inputs": IMAGE_ROWS[0]}),
    _form("image", "flat rows", {"inputs": [[1, 2, 3, 4.5]]}),
]
FORMS = [*VECTOR, *SEVERAL, *IMAGE]

_NOT_FINITE = "null, NaN in a float input"
_UNKNOWN = "an unknown input or column"
_FEATURES = "feature columns for one *named* (batch, k) input"
DIFFERENCES = {
    **{
        f"vector-{name}": Difference((200, None), (400, INVALID), _NOT_FINITE)
        for name in ("null", "NaN", "infinity", "too large for float32", "too large for float64")
    },
    "vector-an unknown input": Difference((200, None), (400, INVALID), _UNKNOWN),
    "vector-an unknown input of an instance": Difference((200, None), (400, INVALID), _UNKNOWN),
    "vector-an unknown column": Difference((200, None), (400, INVALID), _UNKNOWN),
    "vector-split with features": Difference((400, INVALID), (200, None), _FEATURES),
    "vector-split without columns": Difference((400, INVALID), (200, None), _FEATURES),
    "vector-records with features": Difference((400, INVALID), (200, None), _FEATURES),
    "vector-CSV with features": Difference((400, INVALID), (200, None), _FEATURES),
    "vector-no content type": Difference((500, None), (200, None), "no Content-Type"),
    "several-a fraction for an integer": Difference((200, None), (400, INVALID), "a fraction for an integer input"),
}
# Rows of the table that are not about the form of a request.
ELSEWHERE = {"the model fails", "a promotion", "`/version`"}
