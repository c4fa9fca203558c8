"""The weights of an ONNX graph: which initializers they are, and how one is replaced by nodes that compute it.

What is computed from constants alone, ONNX Runtime and OpenVINO compute once, when they open the file (constant
folding). A weight can so be stored in another form at no cost to an inference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from trimtab.convert.onnx_format import SINGLE_FILE_BYTES, side_files
from trimtab.errors import UnsupportedError

Array = np.ndarray
# Operator → its inputs that may be weights.
LAYERS = {"Conv": (1,), "ConvTranspose": (1,), "Gemm": (0, 1), "MatMul": (0, 1)}
# Exporters leave these between a large weight and its layer.
VIEWS = {"Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}


@dataclass(frozen=True)
class Stored:
    """Another form of a weight: `nodes`, in order, compute a tensor of its name from `initializers`."""

    nodes: Sequence[onnx.NodeProto]
    initializers: Sequence[onnx.TensorProto]

    @property
    def size(self) -> int:
        """Bytes it takes in the file."""
        return sum(node.ByteSize() for node in self.nodes) + sum(item.ByteSize() for item in self.initializers)


def float_weights(model: onnx.ModelProto) -> dict[str, Array]:
    """Name → values, float32, of the weights of convolutions, linear layers and matrix products; in graph order."""
    found = {item.name: item for item in model.graph.initializer if item.data_type == onnx.TensorProto.FLOAT}
    made_by = {out: node for node in model.graph.node for out in node.output}
    names: dict[str, None] = {}
    for node in model.graph.node:
        for position in LAYERS.get(node.op_type, ()):
            name = node.input[position]
            while name in made_by and made_by[name].op_type in VIEWS:
                name = made_by[name].input[0]
            if name in found:
                names[name] = None
    return {name: numpy_helper.to_array(found[name]) for name in names}


def refuse_not_finite(name: str, values: Array) -> None:
    """Refuse a weight that holds NaN or infinity.

    Raises:
        UnsupportedError: with their number.
    """
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise UnsupportedError(
            f"{bad} of {values.size} weights are NaN or infinite", where=f"initializer {name}", fix="train again"
        )


def replace(model: onnx.ModelProto, stored: dict[str, Stored], shared: Sequence[onnx.TensorProto] = ()) -> None:
    """Put other forms in the place of initializers; who reads them does not change.

    Args:
        model: changed in place.
        stored: name of an initializer → what computes it.
        shared: initializers that several of them may read; those that none does are left out.
    """
    graph = model.graph
    kept = [item for item in graph.initializer if item.name not in stored]
    added = [item for one in stored.values() for item in one.initializers]
    nodes = [*(node for one in stored.values() for node in one.nodes), *graph.node]
    read = {name for node in nodes for name in node.input}
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend([*kept, *(item for item in shared if item.name in read), *added])
    graph.node.extend(nodes)


def save(model: onnx.ModelProto, out: Path) -> None:
    """Write and check the file; weights beyond 1.5 GB go to `<out>.data` beside it."""
    large = sum(len(item.raw_data) for item in model.graph.initializer) > SINGLE_FILE_BYTES
    onnx.save(model, str(out), save_as_external_data=large, location=f"{out.name}.data")
    onnx.checker.check_model(str(out), full_check=True)


def size_of(graph: Path) -> int:
    """Bytes of an ONNX file with its side-files."""
    return sum(path.stat().st_size for path in (graph, *side_files(graph)))


def refuse_not_smaller(graph: Path, out: Path, method: str) -> tuple[int, int]:
    """Bytes of two files; `out` is removed, and the step refused, where it is not the smaller one.

    Raises:
        UnsupportedError: with both sizes.
    """
    before, after = size_of(graph), size_of(out)
    if after >= before:
        for path in (*side_files(out), out):
            path.unlink()
        raise UnsupportedError(
            f"the file would not be smaller: {after:,} bytes, {before:,} before",
            where=graph.name,
            fix=f"set compress.{method} to null: the weights are too small a part of the file",
        )
    return before, after
