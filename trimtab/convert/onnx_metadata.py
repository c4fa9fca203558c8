"""What an ONNX file says of itself: who wrote it, which candidate it is, what goes in and comes out.

Nothing of the machine that wrote it: no host, path, user or time, so that the same candidate gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from trimtab import __version__

PREFIX = "trimtab."


def describe(graph: Path, candidate: str, precision: str, spec: Mapping[str, Any]) -> None:
    """Write the metadata into an ONNX file; its side-files stay as they are.

    Args:
        graph: the file.
        candidate: id of the candidate; the version that is registered later names it too.
        spec: as in spec.json.
    """
    model = onnx.load(str(graph), load_external_data=False)
    model.producer_name, model.producer_version = "trimtab", __version__
    model.doc_string = f"Raw inputs in, {spec['outputs'][0]['name']} out: all numeric processing is part of the graph."
    onnx.helper.set_model_props(model, {f"{PREFIX}candidate": candidate, f"{PREFIX}precision": precision})
    tensors = {tensor["name"]: tensor for tensor in [*spec["inputs"], *spec["outputs"]]}
    _name_axes(model.graph, tensors)
    for value in model.graph.input:
        value.doc_string = f"{_shape(tensors[value.name])}: raw input, before pre-processing"
    for value in model.graph.output:
        value.doc_string = f"{_shape(tensors[value.name])}: {value.name}, one row for each row of the inputs"
    onnx.save(model, str(graph))


def _name_axes(graph: onnx.GraphProto, tensors: Mapping[str, Mapping[str, Any]]) -> None:
    """Give dynamic axes the specification's names, wherever they occur; exporters call them s31 and the like."""
    names: dict[str, str] = {}
    for value in graph.input:
        sizes = tensors[value.name]["shape"]
        for dim, size in zip(value.type.tensor_type.shape.dim, sizes, strict=False):
            if isinstance(size, str) and dim.dim_param.isidentifier():
                names[dim.dim_param] = size
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:  # may be an expression: 2*s31 + 1
                dim.dim_param = re.sub(r"[^\W\d]\w*", lambda found: names.get(found[0], found[0]), dim.dim_param)


def _shape(tensor: Mapping[str, Any]) -> str:
    return f"{tensor['dtype']} ({', '.join(str(size) for size in tensor['shape'])})"
