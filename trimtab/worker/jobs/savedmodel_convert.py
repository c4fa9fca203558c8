"""model.onnx → saved_model/: the graph rebuilt from TensorFlow's own operations, node by node, weights as constants."""

import json
import sys
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # the interpreter is isolated: it does not look beside the script

import onnx
import tensorflow as tf
from tf_layers import LAYERS
from tf_plain import PLAIN

OPERATIONS = {**PLAIN, **LAYERS}
DOMAINS = ("", "ai.onnx")
LARGEST = 1_500_000_000  # a graph with its constants is one protobuf, which ends at 2 GiB


class Rebuilt(tf.Module):
    """An ONNX graph as a function of its inputs, in the graph's order."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        super().__init__()
        self._graph = graph
        self._held = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}

    def answer(self, *values: Any) -> dict[str, Any]:
        """The graph's outputs by name."""
        found: dict[str, Any] = {"": None, **self._held}
        found.update(zip((one.name for one in self._graph.input), values, strict=True))
        for node in self._graph.node:
            attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
            try:
                made = OPERATIONS[node.op_type](attributes, *(found[name] for name in node.input))
            except Exception as error:
                raise ValueError(f"{node.op_type} {node.name!r}: {type(error).__name__}: {error}") from error
            found.update(zip(node.output, made if isinstance(made, list) else [made], strict=False))
        return {one.name: tf.identity(found[one.name]) for one in self._graph.output}


def main(folder: Path) -> dict[str, Any]:
    """Convert what is in the folder."""
    graph = onnx.load(str(folder / "model.onnx")).graph
    unknown = {f"{node.domain}::{node.op_type}".removeprefix("::") for node in graph.node if not _is_known(node)}
    if unknown:
        return {"ok": False, "error": f"no TensorFlow form for the operations {', '.join(sorted(unknown))}"}
    size = graph.ByteSize()
    if size > LARGEST:
        return {"ok": False, "error": f"the graph has {size} bytes, more than a SavedModel of constants can hold"}
    module = Rebuilt(graph)
    function = tf.function(module.answer, input_signature=[_spec(one) for one in graph.input], autograph=False)
    tf.saved_model.save(module, str(folder / "saved_model"), signatures={"serving_default": function})
    return {"ok": True, "operations": len(graph.node)}


def _is_known(node: onnx.NodeProto) -> bool:
    return node.domain in DOMAINS and node.op_type in OPERATIONS


def _spec(value: onnx.ValueInfoProto) -> Any:
    tensor = value.type.tensor_type
    shape = [size.dim_value if size.HasField("dim_value") else None for size in tensor.shape.dim]
    dtype = tf.as_dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    return tf.TensorSpec(shape, dtype, name=value.name)


if __name__ == "__main__":
    try:
        status = main(Path(sys.argv[1]))
    except Exception as error:
        traceback.print_exc()
        status = {"ok": False, "error": f"{type(error).__name__}: {str(error)[:1500]}"}
    print("\n" + json.dumps(status), flush=True)
