"""MLflow's scoring protocol: a body and its content type become the arrays a model takes.

Answers like the stock server (its status and error codes), with these differences, all on purpose:

- null, NaN or infinity in a float input: 400 with the first such index (stock: 200 and a body that is not JSON);
- a fraction for an integer input: 400 (stock: cut off silently);
- an unknown input or column: 400 (stock: ignored, so a misspelt name beside the right one goes unseen);
- no Content-Type: read as JSON (stock: 500); errors hold neither the payload nor a stack trace (stock: both);
- a table whose columns are the features of a single (batch, k) input: accepted (stock: only for unnamed inputs).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from trimtab.errors import ProtocolError
from trimtab.runtime.door import InputError, check_inputs
from trimtab.serving.media import CSV, media_type
from trimtab.serving.number_arrays import number_arrays
from trimtab.serving.tables import csv_table, records_table, split_table, table_arrays
from trimtab.serving.tensors import to_array

Array = np.ndarray
Spec = Mapping[str, Any]
FORMS = ("instances", "inputs", "dataframe_split", "dataframe_records")
_BAD = "BAD_REQUEST"


def parse(body: bytes, content_type: str | None, spec: Spec) -> dict[str, Array]:
    """The arrays of a request, checked against the model's specification.

    Args:
        body: as received. content_type: the header's value, None when there is none.
        spec: spec.json of the release.

    Returns:
        Input name → array (batch, ...), batch ≥ 1, in the model's dtypes; every float is finite.

    Raises:
        ProtocolError: 400 or 415, with what is wrong and where.
    """
    if media_type(content_type) == CSV:
        arrays = table_arrays(csv_table(body), spec["inputs"])
    else:
        arrays = number_arrays(body, spec["inputs"]) or _from_json(_loads(body), spec["inputs"])
    try:
        return check_inputs(spec, arrays)
    except InputError as error:
        raise ProtocolError(str(error)) from None


def _loads(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        position = f"line {error.lineno}, column {error.colno}"
    try:
        # Python clients write NaN and Infinity, which JSON does not have: read them, so that the index can be told.
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ProtocolError("the body is not valid JSON", where=position, code=_BAD) from None


def _from_json(value: Any, tensors: Sequence[Mapping[str, Any]]) -> dict[str, Array]:
    if not isinstance(value, dict):
        raise ProtocolError(f"the body must be a JSON object with one of {', '.join(FORMS)}", code=_BAD)
    given = [form for form in FORMS if form in value]
    if len(given) != 1:
        raise ProtocolError(f"the body must have exactly one of {', '.join(FORMS)}; it has {len(given)}", code=_BAD)
    form, data = given[0], value[given[0]]
    if form == "dataframe_split":
        return table_arrays(split_table(data), tensors)
    if form == "dataframe_records":
        return table_arrays(records_table(data), tensors)
    columns = _columns(form, data, [tensor["name"] for tensor in tensors])
    return {tensor["name"]: to_array(columns[tensor["name"]], tensor) for tensor in tensors}


def _columns(form: str, data: Any, names: list[str]) -> Mapping[str, Any]:
    """Values by input name, for `instances` and `inputs`."""
    if isinstance(data, dict):
        _check_names(data, names, form)
        return data
    if not isinstance(data, list):
        raise ProtocolError("must be a list or an object", where=form, code=_BAD)
    if not data:
        raise ProtocolError("has no rows", where=form)
    if isinstance(data[0], dict):
        if form == "inputs":
            raise ProtocolError(
                "must not be a list of objects", where=form, fix="send those as `instances`, or name → values"
            )
        for index, row in enumerate(data):
            if not isinstance(row, dict):
                raise ProtocolError("must be an object like the first one", where=f"{form}[{index}]", code=_BAD)
            _check_names(row, names, f"{form}[{index}]")
        return {name: [row[name] for row in data] for name in names}
    if len(names) != 1:
        raise ProtocolError(
            f"is a bare list, but the model takes {len(names)} inputs", where=form, fix=f"name them: {names}"
        )
    return {names[0]: data}


def _check_names(given: Mapping[str, Any], names: list[str], where: str) -> None:
    missing = [name for name in names if name not in given]
    if missing:
        raise ProtocolError(f"lacks the inputs {missing}", where=where)
    if len(given) > len(names):
        raise ProtocolError(
            f"has {len(given) - len(names)} unknown inputs", where=where, fix=f"the model takes {names}"
        )
