"""NaN among the activations of calibration rows: passed over where ranges are taken, and counted here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from trimtab.compress.calibration import Rows
from trimtab.runtime.onnxruntime_cpu import open_session

Array = np.ndarray
SUFFIX = "/nan_count"
SHOWN = 5


def nan_counts(ready: Path, rows: Mapping[str, Array], folder: Path) -> dict[str, int]:
    """Tensor → number of its values that are NaN over all rows, of those that have any; in the graph's order.

    Args:
        ready: a float ONNX file with shapes inferred. rows: name → array (n, ...). folder: to work in.
    """
    graph = onnx.load(ready)
    floats = {
        value.name
        for value in graph.graph.value_info
        if value.type.tensor_type.elem_type == TensorProto.FLOAT and value.type.tensor_type.HasField("shape")
    }
    tensors = [name for node in graph.graph.node for name in node.output if name in floats]
    for name in tensors:
        graph.graph.node.extend(
            [
                helper.make_node("IsNaN", [name], [f"{name}/is_nan"]),
                helper.make_node("Cast", [f"{name}/is_nan"], [f"{name}/as_float"], to=TensorProto.DOUBLE),
                helper.make_node("ReduceSum", [f"{name}/as_float"], [name + SUFFIX], keepdims=0),
            ]
        )
        graph.graph.output.append(helper.make_tensor_value_info(name + SUFFIX, TensorProto.DOUBLE, []))
    path = folder / "counting.onnx"
    onnx.save(graph, path)
    session = open_session(path, threads=1)
    counts = np.zeros(len(tensors))
    for batch in Rows(rows):
        counts += np.array(session.run([name + SUFFIX for name in tensors], batch), dtype=np.float64)
    return {name: int(count) for name, count in zip(tensors, counts, strict=True) if count}


def notes_on_nan(ready: Path, rows: Mapping[str, Array], folder: Path) -> list[str]:
    """What there is to say about NaN among the activations; [] if there is none."""
    found = nan_counts(ready, rows, folder)
    if not found:
        return []
    shown = ", ".join(f"{count} in {name}" for name, count in list(found.items())[:SHOWN])
    more = f" and in {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return [f"NaN among the activations of the calibration rows, passed over for the ranges: {shown}{more}"]
