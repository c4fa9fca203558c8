"""What an OpenVINO model is made of, as far as quantization cares: its weighted layers and its pre-processing.

A quantized layer reads integer weights, scaled back by Convert, Subtract and Multiply, and an activation that a
FakeQuantize has rounded; when it is compiled these become one operation on integers:

    Constant (i8) → Convert → Multiply ─┐
    ... → FakeQuantize → (Reshape) ─────┴→ Convolution
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# First of the two: it keeps `import openvino` from sending its usage event.
from trimtab.runtime import openvino_cpu  # noqa: F401  isort: skip
import openvino

# Operation → its inputs that may be weights.
LAYERS = {
    "Convolution": (1,),
    "GroupConvolution": (1,),
    "ConvolutionBackpropData": (1,),
    "GroupConvolutionBackpropData": (1,),
    "MatMul": (0, 1),
    "LSTMSequence": (4, 5),
    "GRUSequence": (3, 4),
    "RNNSequence": (3, 4),
}
# What stands between a constant and its layer; the constant is the first input of each.
_VIEWS = {"Convert", "FakeQuantize", "Multiply", "Reshape", "Squeeze", "Subtract", "Transpose", "Unsqueeze"}
_INTEGERS = {"i8", "u8"}


@dataclass(frozen=True)
class Layer:
    """An operation with constant weights: its name, how many weights, and whether they are INT8."""

    name: str
    weights: int
    quantized: bool


def layers_of(model: openvino.Model) -> list[Layer]:
    """The weighted layers of a model in topological order; a product of two activations is none."""
    found = []
    for op in model.get_ordered_ops():
        ports = LAYERS.get(op.get_type_name(), ())
        weights = [constant for port in ports if (constant := _constant(op.input_value(port))) is not None]
        if weights:
            kinds = {constant.get_element_type().get_type_name() for constant in weights}
            count = sum(math.prod(constant.get_output_shape(0)) for constant in weights)
            found.append(Layer(op.get_friendly_name(), count, kinds <= _INTEGERS))
    return found


def preprocessing(model: openvino.Model) -> list[str]:
    """Names of the operations between floating-point inputs and the first weighted layer of each path.

    What reads integers is not scaled before it is used: an embedding may well be quantized.
    """
    weighted = {layer.name for layer in layers_of(model)}
    raw: set[openvino.Output] = set()
    names = []
    for op in model.get_ordered_ops():
        name = op.get_friendly_name()
        reads = any(value in raw for value in op.input_values())
        if op.get_type_name() == "Parameter" and op.get_element_type().is_real():
            raw |= set(op.outputs())
        elif reads and name not in weighted:
            raw |= set(op.outputs())
            names.append(name)
    return names


def empty_ranges(model: openvino.Model) -> Iterator[tuple[str, float, float]]:
    """Tensor and ends of each quantizer of activations whose range is empty or not finite, in topological order."""
    for op in model.get_ordered_ops():
        if op.get_type_name() != "FakeQuantize":
            continue
        lows, highs = (op.input_value(port).get_node().get_data().ravel() for port in (1, 2))
        bad = ~(np.isfinite(lows) & np.isfinite(highs) & (lows < highs))
        if bad.any():
            yield op.input_value(0).get_node().get_friendly_name(), float(lows[bad][0]), float(highs[bad][0])


def _constant(value: openvino.Output) -> openvino.Node | None:
    node = value.get_node()
    while node.get_type_name() in _VIEWS:
        node = node.input_value(0).get_node()
    return node if node.get_type_name() == "Constant" else None
