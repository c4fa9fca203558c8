"""Layers of a QDQ graph that are to stay in float, kept from the runtime that would quantize them after all.

Where a Conv, ConvTranspose or Gemm with constant float weights stands between a DequantizeLinear and a QuantizeLinear,
ONNX Runtime (seen in 1.32, at its default optimization) takes the graph for one that was quantized by halves, and
rounds the weights to 8 bits itself when it opens the file: per tensor, whatever was asked for. A layer that is left in
float because 8 bits spoil it would be spoilt there. It lets those layers alone whose bias is not a constant, so the
bias is given as 32-bit integers and their scale, which it does not fold: exact to the precision of float32, and a
handful of multiplications an inference.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

Array = np.ndarray
OPERATORS = ("Conv", "ConvTranspose", "Gemm")
LARGEST = 2**30  # of the integers: float32 has 24 bits, so what is rounded away here is less than what it rounds


def keep_float(model: onnx.ModelProto) -> list[str]:
    """Give every float layer that reads dequantized values its bias in another form; the graph's values stay.

    Args:
        model: a graph in QDQ form, changed in place.

    Returns:
        Names of the layers.
    """
    graph = model.graph
    constants = {item.name: item for item in graph.initializer}
    dequantized = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    layers = [
        node
        for node in graph.node
        if node.op_type in OPERATORS and node.input[0] in dequantized and node.input[1] in constants
    ]
    for layer in layers:
        given = layer.input[2] if len(layer.input) > 2 else ""
        if given and given not in constants:
            continue  # no constant already
        bias = numpy_helper.to_array(constants[given]) if given else np.zeros(_outputs(layer, constants), np.float32)
        dequantize, added = _as_integers(f"{layer.name}:bias", bias)
        del layer.input[2:]
        layer.input.append(dequantize.output[0])
        graph.node.insert(0, dequantize)
        graph.initializer.extend(added)
    return [layer.name for layer in layers]


def _outputs(layer: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> int:
    """Number of output channels."""
    given = {item.name: helper.get_attribute_value(item) for item in layer.attribute}
    shape = constants[layer.input[1]].dims
    if layer.op_type == "ConvTranspose":
        return int(shape[1] * given.get("group", 1))
    return int(shape[1] if layer.op_type == "Gemm" and not given.get("transB", 0) else shape[0])


def _as_integers(name: str, bias: Array) -> tuple[onnx.NodeProto, list[onnx.TensorProto]]:
    largest = float(np.abs(bias).max(initial=0.0))
    scale = np.array(max(largest / LARGEST, float(np.finfo(np.float32).tiny)), np.float32)
    integers = np.round(bias.astype(np.float64) / float(scale)).astype(np.int32)
    tensors = [numpy_helper.from_array(integers, f"{name}:integers"), numpy_helper.from_array(scale, f"{name}:scale")]
    return helper.make_node("DequantizeLinear", [item.name for item in tensors], [f"{name}:float"], name), tensors
