"""JSON schemas (draft 2020-12, as in OpenAPI 3.1) of what a release takes and answers, made from its spec.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trimtab.serving.request_id import PATTERN
from trimtab.serving.v2_tensors import BINARY_SIZE, DATATYPES

Schema = dict[str, Any]
Tensors = Sequence[Mapping[str, Any]]
_SCALARS = {"f": {"type": "number"}, "i": {"type": "integer"}, "b": {"type": "boolean"}}


def schemas(inputs: Tensors, outputs: Tensors, classes: int | None) -> dict[str, Schema]:
    """All schemas of the document, by name.

    Args:
        inputs, outputs: of spec.json; both empty while no release is loaded, and every tensor fits then.
        classes: largest label plus one; None of a regression, whose labels are numbers.
    """
    return {
        "Inputs": _by_name(inputs),
        "Invocation": _invocation(inputs),
        "Predictions": _object({"predictions": _by_name(outputs)}),
        "Labels": _labels(classes),
        "Error": _object({"error_code": {"type": "string"}, "message": {"type": "string"}}),
        "V2Request": _v2_request([str(tensor["name"]) for tensor in inputs]),
        "V2Response": _object(
            {"model_name": {"type": "string"}, "model_version": {"type": "string"}, "id": {"type": "string"},
             "outputs": {"type": "array", "items": _v2_tensor()}},
            required=["model_name", "outputs"],
        ),
        "V2Error": _object({"error": {"type": "string"}}),
    }  # fmt: skip


def tensor_schema(tensor: Mapping[str, Any]) -> Schema:
    """Nested lists of a tensor (batch, ...): a fixed axis has its length, the batch at least one row."""
    schema: Schema = {"type": "array", "items": row_schema(tensor), "minItems": 1}
    return schema


def row_schema(tensor: Mapping[str, Any]) -> Schema:
    """One row of a tensor: its axes but the batch."""
    schema: Schema = dict(_SCALARS[str(tensor["dtype"])[0]])
    for size in reversed(tensor["shape"][1:]):
        schema = {"type": "array", "items": schema}
        if isinstance(size, int):
            schema |= {"minItems": size, "maxItems": size}
    return schema


def _invocation(inputs: Tensors) -> Schema:
    """Exactly one of the four forms."""
    by_name: list[Schema] = [{"$ref": "#/components/schemas/Inputs"}]
    bare: list[Schema] = [tensor_schema(inputs[0])] if len(inputs) == 1 else []
    row = _object({str(tensor["name"]): row_schema(tensor) for tensor in inputs}) if inputs else {"type": "object"}
    rows: Schema = {"type": "array", "items": row, "minItems": 1}
    cells: Schema = {"type": "array", "items": {"type": "array"}, "minItems": 1}
    split = _object(
        {"columns": {"type": "array", "items": {"type": "string"}}, "index": {"type": "array"}, "data": cells},
        required=["data"],
    )
    records: Schema = {"type": "array", "items": {"type": "object"}, "minItems": 1}
    forms = {
        "inputs": {"anyOf": [*by_name, *bare]},
        "instances": {"anyOf": [*by_name, *bare, rows]},
        "dataframe_split": split,
        "dataframe_records": records,
    }
    return {
        "type": "object",
        "properties": {**forms, "params": {"description": "taken and not used: no release here has parameters"}},
        "oneOf": [{"required": [form]} for form in forms],
    }


def _by_name(tensors: Tensors) -> Schema:
    if not tensors:
        return {"type": "object"}
    return _object({str(tensor["name"]): tensor_schema(tensor) for tensor in tensors})


def _labels(classes: int | None) -> Schema:
    label: Schema = {"type": "number"} if classes is None else {"type": "integer", "minimum": 0, "maximum": classes - 1}
    entry = _object(
        {
            "request_id": {"type": "string", "pattern": f"^{PATTERN}$"},
            "row": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1, "default": 0},
            "label": label,
        },
        required=["request_id", "label"],
    )
    return {"type": "array", "items": entry}


def _v2_request(names: list[str]) -> Schema:
    name: Schema = {"type": "string", **({"enum": names} if names else {})}
    output = _object({"name": {"type": "string"}, "parameters": {"type": "object"}}, required=["name"])
    return _object(
        {
            "id": {"type": "string", "maxLength": 1024},
            "parameters": {"type": "object", "properties": {"binary_data_output": {"type": "boolean"}}},
            "inputs": {"type": "array", "items": _v2_tensor(name), "minItems": 1},
            "outputs": {"type": "array", "items": output},
        },
        required=["inputs"],
    )


def _v2_tensor(name: Schema | None = None) -> Schema:
    size = {"type": "integer", "minimum": 0, "description": "bytes behind the JSON object, in place of data"}
    return _object(
        {
            "name": name or {"type": "string"},
            "datatype": {"enum": list(DATATYPES)},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "parameters": {"type": "object", "properties": {BINARY_SIZE: size}},
            "data": {"type": "array", "description": "row-major, flat or nested"},
        },
        required=["name", "datatype", "shape"],
    )


def _object(properties: Mapping[str, Schema], required: Sequence[str] | None = None) -> Schema:
    wanted = list(properties) if required is None else list(required)
    return {"type": "object", "properties": dict(properties), "required": wanted}
