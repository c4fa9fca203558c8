"""A `.pt2` archive that is only a graph of tensor operations, or is refused before `torch.export` reads it.

`torch.export.load` (2.13) trusts its file: it unpickles sample inputs, custom objects and tensors marked so, evaluates
the expressions of sizes as Python (`sympy.sympify`), compiles guards, calls whatever function below `torch` a node
names, and loads shared libraries of AOTInductor. Nothing of that is in an archive we write, so nothing of it is let in.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any

import torch

_RECORDS = re.compile(
    r"data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|models/model\.json|data/sample_inputs/model\.pt|archive_format|archive_version|version|byteorder"
    r"|\.data/(version|serialization_id)"
)
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_OPERATION = re.compile(
    r"torch\.ops\.aten\.(?!from_file\b)\w+\.\w+|torch\.sym_(float|int|max|min|not|ite|sum)|math\.(ceil|floor|trunc)"
    r"|_operator\.(getitem|add|sub|mul|truediv|floordiv|mod|pow|neg|eq|ne|lt|le|gt|ge|and_|or_|not_)"
)
# A size: calls of these on integers and symbols, e.g. "Mul(Integer(8), Symbol('s48', positive=True, integer=True))".
_SIZE = re.compile(
    r"(Symbol|Integer|Float|Rational|Mul|Add|Pow|FloorDiv|CleanDiv|Mod|PythonMod|Max|Min|CeilDiv|ModularIndexing"
    r"|positive|integer|nonnegative|negative|real|True|False|precision|'[a-z]++\d++'|[a-z]\d++|[-+*/()=, .]|\d++)*+"
)
LONGEST_SIZE = 4096
_NAME = re.compile(r"[A-Za-z_][\w.]*")
_CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict")


def _is_size(value: object) -> bool:
    """No power by `**`: what is checked is computed afterwards, and 9**9**9 has no end."""
    text = isinstance(value, str) and len(value) <= LONGEST_SIZE and "**" not in value
    return text and _SIZE.fullmatch(str(value)) is not None


def open_program(archive: bytes) -> torch.export.ExportedProgram:
    """The exported program in an archive.

    Raises:
        ValueError: it holds anything but a graph of ATen operations and its tensors, naming what.
    """
    check_archive(archive)
    return torch.export.load(io.BytesIO(archive))


def check_archive(archive: bytes) -> None:
    """See `open_program`. The records are read by the very reader that `torch.export.load` uses.

    Raises:
        ValueError: as `open_program`.
    """
    reader = torch._C.PyTorchFileReader(io.BytesIO(archive))
    for record in reader.get_all_records():
        if not _RECORDS.fullmatch(record):
            raise _refused(f"a record {record!r}")
    if len(reader.get_record("data/sample_inputs/model.pt")):
        raise _refused("pickled sample inputs")
    for record in _CONFIGS:
        for name, entry in json.loads(reader.get_record(record))["config"].items():
            if entry["use_pickle"] is not False or not _NAME.fullmatch(name):
                raise _refused(f"a pickled or misnamed tensor {name!r}")
    _check_model(json.loads(reader.get_record("models/model.json")))


def _check_model(model: dict[str, Any]) -> None:
    module = model["graph_module"]
    if model["guards_code"] or module["treespec_namedtuple_fields"] or module["graph"]["custom_obj_values"]:
        raise _refused("guards, named tuples or custom objects")
    if any(node["metadata"] for node in module["graph"]["nodes"]):
        raise _refused("metadata of nodes")
    for key, value in _strings(model):
        if key in ("in_spec", "out_spec"):
            _check_containers(json.loads(value)[1])
        elif key == "target" and not _OPERATION.fullmatch(value):
            raise _refused(f"a call of {value!r}")
        elif key == "expr_str" and not _is_size(value):
            raise _refused(f"a size {value!r}")
        elif (key.endswith("name") or key == "fqn") and value and not _NAME.fullmatch(value):
            raise _refused(f"a name {value!r}")
        elif key in ("as_graph", "as_custom_obj", "as_operator"):
            raise _refused(f"an argument of kind {key}")


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in ("as_graph", "as_custom_obj", "as_operator"):
                yield name, ""
            yield from _strings(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner, key)
    elif isinstance(value, str):
        yield key, value


def _check_containers(tree: dict[str, Any]) -> None:
    if tree["type"] not in _CONTAINERS or tree["context"] not in (None, "null", "[]"):
        raise _refused(f"a container {tree['type']!r}")
    for child in tree["children_spec"]:
        _check_containers(child)


def _refused(what: str) -> ValueError:
    return ValueError(f"the .pt2 archive holds {what}: only a graph of ATen operations and its tensors is loaded")
