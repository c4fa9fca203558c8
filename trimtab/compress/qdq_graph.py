"""What surrounds a quantizer's work on an ONNX graph: made ready before it, counted and tidied after it."""

from __future__ import annotations

import io
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import onnx
from onnxruntime.quantization.shape_inference import quant_pre_process

from trimtab.compress.graph_weights import LAYERS, float_weights
from trimtab.errors import UnsupportedError

SHAPE_ALONE = frozenset({"Squeeze", "Unsqueeze", "Reshape", "Flatten", "Identity"})
AFFINE = frozenset({"Mul", "Div", "Add", "Sub"})


@contextmanager
def silent() -> Iterator[None]:
    """ONNX Runtime's quantizer logs to the root logger, warns about options and prints; off for the block."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)


def prepared(fp32_onnx: Path, folder: Path) -> tuple[Path, onnx.ModelProto]:
    """The graph with shapes inferred, constants folded and nodes named: its file in `folder`, and itself."""
    ready = folder / "ready.onnx"
    quant_pre_process(str(fp32_onnx), str(ready))
    graph = onnx.load(ready)
    _set_apart(graph)
    _name_nodes(graph)
    onnx.save(graph, ready)
    return ready, graph


def _set_apart(graph: onnx.ModelProto) -> None:
    """Outputs that only a Relu or Clip reads besides go through an Identity.

    ONNX Runtime 1.32 gives what such a node reads the range of what it gives, if nothing else reads it, and forgets
    that the graph itself may: the output would lose all that is negative.
    """
    for value in graph.graph.output:
        read = [node.op_type for node in graph.graph.node if value.name in node.input]
        if len(read) == 1 and read[0] in ("Relu", "Clip"):
            inner, outer = f"{value.name}_inside", value.name
            _rename(graph, outer, inner)
            known = graph.graph.value_info.add()
            known.CopyFrom(value)
            known.name = inner
            graph.graph.node.append(onnx.helper.make_node("Identity", [inner], [outer], f"{outer}_apart"))


def _name_nodes(graph: onnx.ModelProto) -> None:
    # Nodes are excluded by name, and optimizers leave new ones without.
    taken = {node.name for node in graph.graph.node}
    for position, node in enumerate(graph.graph.node):
        if not node.name:
            name = f"{node.op_type}_{position}"
            node.name = name if name not in taken else f"{name}_unnamed"


def float_ends(graph: onnx.ModelProto) -> frozenset[str]:
    """Names of the nodes before the first weighted layer of each path, and of softmax."""
    raw = {value.name for value in graph.graph.input}
    before = set()
    for node in graph.graph.node:  # topological order
        fed = [name for name in node.input if name]
        if node.op_type not in LAYERS and any(name in raw for name in fed):
            before.add(node.name)
            raw |= set(node.output)
    return frozenset(before | {node.name for node in graph.graph.node if node.op_type == "Softmax"})


def beyond_the_quantizer(graph: onnx.ModelProto, per_channel: bool) -> frozenset[str]:
    """Names of layers at which ONNX Runtime 1.32's quantizer fails: ConvTranspose in groups with a bias, per channel.

    It takes a group's channels for all of them, and cannot scale the bias ("could not be broadcast together").
    """
    return frozenset(
        node.name
        for node in graph.graph.node
        if per_channel
        and node.op_type == "ConvTranspose"
        and len(node.input) > 2
        and any(item.name == "group" and item.i > 1 for item in node.attribute)
    )


def quantized_layers(graph: onnx.ModelProto) -> dict[str, str]:
    """Name of each layer that is computed in integers → name of its integer weights."""
    dequantized = {n.output[0]: n.input[0] for n in graph.graph.node if n.op_type == "DequantizeLinear"}
    found = {}
    for node in graph.graph.node:
        if node.op_type in LAYERS and all(name in dequantized for name in list(node.input)[:2]):
            found[node.name] = dequantized[node.input[1]]
        elif node.op_type in ("MatMulInteger", "ConvInteger"):
            found[node.name] = node.input[1]
    return found


def counted(graph: onnx.ModelProto, before: onnx.ModelProto, source: Path) -> tuple[int, float]:
    """Number of layers that are quantized, and the share of the weights of all layers that is theirs.

    Raises:
        UnsupportedError: none is.
    """
    sizes = {item.name: math.prod(item.dims) for item in graph.graph.initializer}
    layers = quantized_layers(graph)
    total = sum(values.size for values in float_weights(before).values())
    done = sum(sizes.get(name, 0) for name in set(layers.values()))
    if not done:
        raise UnsupportedError(
            f"0 of {total} weights quantized: no convolution or linear layer with constant weights can be",
            where=source.name,
            fix="set compress.quantize to null",
        )
    return len(layers), done / total


def free_output(graph: onnx.ModelProto) -> None:
    """Take the quantize-dequantize pair off the logits, so that softmax reads what the last layer computed.

    The same where the graph ends in that pair (a regression): an answer would be one of 256 numbers.
    """
    made_by = {out: node for node in graph.graph.node for out in node.output}
    readers: dict[str, int] = {}
    for node in graph.graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    outputs = {value.name for value in graph.graph.output}
    for softmax in [node for node in graph.graph.node if set(node.output) & outputs and node.op_type == "Softmax"]:
        dequantize = made_by.get(softmax.input[0])
        if dequantize is None or dequantize.op_type != "DequantizeLinear":
            continue
        quantize_node = made_by.get(dequantize.input[0])
        if quantize_node is None or readers[dequantize.output[0]] > 1 or readers[quantize_node.output[0]] > 1:
            continue
        if softmax.input[0] in outputs:  # the logits are an output themselves
            _rename(graph, quantize_node.input[0], softmax.input[0])
        else:
            softmax.input[0] = quantize_node.input[0]
        graph.graph.node.remove(dequantize)
        graph.graph.node.remove(quantize_node)
    _free_numbers(graph, {out: node for node in graph.graph.node for out in node.output}, readers, outputs)
    read = {name for node in graph.graph.node for name in node.input}
    for item in [item for item in graph.graph.initializer if item.name not in read]:
        graph.graph.initializer.remove(item)


def _rename(graph: onnx.ModelProto, old: str, new: str) -> None:
    for node in graph.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]


def _free_numbers(
    graph: onnx.ModelProto, made_by: Mapping[str, onnx.NodeProto], readers: Mapping[str, int], outputs: set[str]
) -> None:
    """From each output backwards to the layer that computed it: pairs on the way are taken out.

    A regression often ends in a reshape, and in a scale and a shift back to the unit of its labels. Nothing in front of
    a softmax is met: the walk ends at whatever is none of these.
    """
    constants = _constants(graph)
    for name in sorted(outputs):
        reader: tuple[onnx.NodeProto, int] | None = None  # node and which of its inputs; None: the graph itself
        while (node := made_by.get(name)) is not None:
            if node.op_type == "DequantizeLinear":
                pair = made_by.get(node.input[0])
                last = made_by.get(pair.input[0]) if pair is not None else None
                alone = readers.get(name, 0) <= (reader is not None)
                if pair is None or last is None or readers[pair.input[0]] > 1 or not alone:
                    break
                if reader is None:
                    last.output[list(last.output).index(pair.input[0])] = name
                else:
                    name = reader[0].input[reader[1]] = pair.input[0]
                made_by = {**made_by, name: last}
                graph.graph.node.remove(node)
                graph.graph.node.remove(pair)
            elif (place := _passed_on(node, constants)) is not None:
                reader, name = (node, place), node.input[place]
            else:
                break


def _passed_on(node: onnx.NodeProto, constants: set[str]) -> int | None:
    """Which input a node passes on, reshaped, or scaled or shifted by a constant; None if it does more."""
    if node.op_type in SHAPE_ALONE:
        return 0
    moving = [place for place, name in enumerate(node.input) if name not in constants]
    return moving[0] if node.op_type in AFFINE and len(moving) == 1 else None


def _constants(graph: onnx.ModelProto) -> set[str]:
    """Names that hold the same for all rows: initializers, also dequantized ones, and constants."""
    known = {item.name for item in graph.graph.initializer}
    for node in graph.graph.node:
        if node.op_type == "Constant" or (node.op_type == "DequantizeLinear" and node.input[0] in known):
            known.update(node.output)
    return known
