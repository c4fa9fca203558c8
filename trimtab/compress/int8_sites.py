"""Where an INT8 graph rounds: which tensors and weights ONNX Runtime's quantizer gave a scale, read off its QDQ form.

A network that is to be trained for INT8 must feel the rounding at these places and at no others: the quantizer takes a
ReLU into the convolution before it, rounds both sides of a sum, lets a reshape keep the scale of what it reshapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization.calibrate import load_tensors_data

from trimtab.compress.quantize_static import Calibrated
from trimtab.runtime.onnxruntime_cpu import open_session

Array = np.ndarray
STEPS = 255  # of an unsigned activation
CLIPPING = ("Relu", "Clip")
SAME = 1e-4  # relative; what the quantizer stores is the range rounded to float32


@dataclass(frozen=True)
class ActivationSite:
    """A tensor that is rounded to uint8 between two nodes.

    Attributes:
        tensor: its name in the float graph.
        low, high: the range, as calibrated.
        fixed: the quantizer does not take the range from calibration (softmax: 0 to 1).
    """

    tensor: str
    low: float
    high: float
    fixed: bool


@dataclass(frozen=True)
class WeightSite:
    """A weight that is stored as 7-bit integers.

    Attributes:
        node: the layer that reads it. values: in float, as the graph has them, batch norm folded in.
        axis: of `values`, along which each slice has a scale of its own; None: one scale.
    """

    node: str
    values: Array
    axis: int | None


def activation_sites(calibrated: Calibrated) -> list[ActivationSite]:
    """The tensors that are rounded, in the order of the graph; of those that share a scale, the first alone."""
    constants = {item.name: item for item in calibrated.full.graph.initializer}
    ranges = dict(load_tensors_data(calibrated.ranges).items())
    readers: dict[str, list[str]] = {}
    for node in calibrated.before.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    scales = {
        node.input[1]
        for node in calibrated.full.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in constants
    }  # a tensor that takes over the scale of a weight (an embedding) has no range of its own
    sites = []
    for node in calibrated.full.graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] not in ranges or node.input[1] in scales:
            continue
        scales.add(node.input[1])
        tensor = node.input[0]
        scale, zero = (float(numpy_helper.to_array(constants[name])) for name in node.input[1:3])
        stored = (-zero * scale, (STEPS - zero) * scale)
        low, high = (float(np.min(end)) for end in ranges[tensor].range_value)
        own = abs((max(high, 0.0) - min(low, 0.0)) / STEPS - scale) <= SAME * scale
        if own:
            sites.append(ActivationSite(tensor, min(low, 0.0), max(high, 0.0), False))
        elif readers.get(tensor, []) not in ([name] for name in CLIPPING):
            sites.append(ActivationSite(tensor, *stored, True))
        # Else it has the range of the ReLU that alone reads it: rounding it and the ReLU's output rounds the same.
    return sites


def weight_sites(calibrated: Calibrated) -> list[WeightSite]:
    """The weights of all layers that are stored as integers, in the order of the graph."""
    floats = {item.name: item for item in calibrated.before.graph.initializer}
    integers = {
        item.name: item
        for item in calibrated.full.graph.initializer
        if item.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    }
    scales = {item.name: item for item in calibrated.full.graph.initializer}
    stored = {
        node.output[0]: node
        for node in calibrated.full.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in integers
    }
    before = {node.name: node for node in calibrated.before.graph.node}
    sites = []
    for node in calibrated.full.graph.node:
        for place, name in enumerate(node.input):
            source = before[node.name].input[place] if node.name in before and name in stored else ""
            if source in floats:
                values = numpy_helper.to_array(floats[source])
                sites.append(WeightSite(node.name, values, _axis(stored[name], scales, values.ndim)))
    return sites


def _axis(dequantize: onnx.NodeProto, scales: Mapping[str, onnx.TensorProto], rank: int) -> int | None:
    if not scales[dequantize.input[1]].dims:
        return None
    axis = next((item.i for item in dequantize.attribute if item.name == "axis"), 1)
    return int(axis) % rank


def float_values(calibrated: Calibrated, tensors: Sequence[str], rows: Mapping[str, Array]) -> dict[str, Array]:
    """What the float graph computes for these tensors: name → array (n, ...).

    Args:
        rows: name → array (n, ...), raw.
    """
    graph = onnx.ModelProto()
    graph.CopyFrom(calibrated.before)
    inputs = {value.name for value in graph.graph.input}
    outputs = {value.name for value in graph.graph.output}
    inner = [name for name in dict.fromkeys(tensors) if name not in inputs]
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner if name not in outputs)
    path = calibrated.ranges.with_name("inner.onnx")
    onnx.save(graph, path)
    found = open_session(path, threads=1).run(inner, dict(rows))
    return {**{name: rows[name] for name in tensors if name in inputs}, **dict(zip(inner, found, strict=True))}
