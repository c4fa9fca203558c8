"""Deliberately wrong conversions: each breaks a right folder in one way, and names the words a check must answer with.

A mutation stands for a slip of an exporter, a converter, or a person who mixes up files. `worlds.objection` must say
something against each, with these words; against the unbroken folder it must say nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from benchmarks.convert.worlds import make, objection, worlds
from trimtab.convert.graph import Positional

Array = np.ndarray


@dataclass(frozen=True)
class Mutation:
    """Attributes: the world it breaks, and words that must all be in the message which names it."""

    name: str
    world: str
    words: tuple[str, ...]
    mutate: Callable[[Path], None]


def _edit(folder: Path, change: Callable[[onnx.GraphProto], None]) -> None:
    model = onnx.load(str(folder / "model.onnx"))
    change(model.graph)
    onnx.save(model, str(folder / "model.onnx"))


def _change(graph: onnx.GraphProto, name: str, change: Callable[[Array], Array]) -> None:
    held = next(one for one in graph.initializer if one.name == name)
    values = numpy_helper.to_array(held)
    changed = np.ascontiguousarray(change(values.copy())).astype(values.dtype)
    held.CopyFrom(numpy_helper.from_array(changed, name))


def _weight(name: str, change: Callable[[Array], Array]) -> Callable[[Path], None]:
    return lambda folder: _edit(folder, lambda graph: _change(graph, f"module.model.{name}", change))


def _node(graph: onnx.GraphProto, kind: str) -> onnx.NodeProto:
    return next(node for node in graph.node if node.op_type == kind)


def _flip_channel(weights: Array) -> Array:
    weights[3] *= -1
    return weights


def _swap_classes(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        for name in ("module.model.head.weight", "module.model.head.bias"):
            _change(graph, name, lambda values: values[[1, 0, 2]])

    _edit(folder, change)


def _wrong_strides(weights: Array) -> Array:
    """The bytes of the transposed array, read as if they lay in order."""
    return np.ascontiguousarray(weights.transpose()).reshape(weights.shape)


def _drop_normalisation(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        conv = _node(graph, "Conv")
        before = list(graph.node)[: list(graph.node).index(conv)]
        conv.input[0] = "input"
        for node in before:
            graph.node.remove(node)

    _edit(folder, change)


def _truncate(name: str) -> Callable[[Path], None]:
    def mutate(folder: Path) -> None:
        held = (folder / name).read_bytes()
        (folder / name).write_bytes(held[: len(held) // 2])

    return mutate


def _fix_batch(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1

    _edit(folder, change)


def _freeze_batch(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        _change(graph, _node(graph, "Reshape").input[1], lambda _: np.array([1, -1]))

    _edit(folder, change)


def _freeze_branch(folder: Path) -> None:
    """What an exporter without a judge writes: the trace of four rows, whatever the code says of fewer."""
    world = worlds()["branch"]
    rows = torch.from_numpy(world.example["input"])
    script = torch.jit.trace(Positional(world.module, ["input"]).eval(), rows, check_trace=False)
    torch.jit.save(torch.jit.freeze(script), str(folder / "model.pt"))
    _write_spec(folder, world.spec)


def _write_spec(folder: Path, spec: dict[str, object]) -> None:
    (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")


def _drop_input(folder: Path) -> None:
    """The input becomes a constant, as when the path that reads it was not taken."""

    def change(graph: onnx.GraphProto) -> None:
        del graph.input[1]
        graph.initializer.append(numpy_helper.from_array(np.zeros((1, 4), np.float32), "right"))

    _edit(folder, change)


def _swap_inputs(folder: Path) -> None:
    other = {"left": "right", "right": "left"}

    def change(graph: onnx.GraphProto) -> None:
        for node in graph.node:
            node.input[:] = [other.get(name, name) for name in node.input]

    _edit(folder, change)


def _swap_outputs(folder: Path) -> None:
    """Two outputs of one shape, each under the other's name."""
    other = {"near": "far", "far": "near"}

    def change(graph: onnx.GraphProto) -> None:
        for node in graph.node:
            node.input[:] = [other.get(name, name) for name in node.input]
            node.output[:] = [other.get(name, name) for name in node.output]

    _edit(folder, change)


def _insert(graph: onnx.GraphProto, before: onnx.NodeProto, nodes: list[onnx.NodeProto], slot: int = 0) -> None:
    """Put nodes that begin with what `before` reads at `slot` in front of it; the last one's result is read instead."""
    place = list(graph.node).index(before)
    before.input[slot] = nodes[-1].output[0]
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*rest[:place], *nodes, *rest[place:]])


def _narrow(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        gather = _node(graph, "Gather")
        casts = [
            onnx.helper.make_node("Cast", [gather.input[1]], ["narrow"], to=onnx.TensorProto.INT8),
            onnx.helper.make_node("Cast", ["narrow"], ["wide"], to=onnx.TensorProto.INT64),
        ]
        _insert(graph, gather, casts, slot=1)

    _edit(folder, change)


def _overflow(folder: Path) -> None:
    """An activation is held in FP16, beyond its largest number, 65504."""

    def change(graph: onnx.GraphProto) -> None:
        norm = _node(graph, "BatchNormalization")
        for name, value in (("up", 1e6), ("down", 1e-6)):
            graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
        nodes = [
            onnx.helper.make_node("Mul", [norm.input[0], "up"], ["raised"]),
            onnx.helper.make_node("Cast", ["raised"], ["half"], to=onnx.TensorProto.FLOAT16),
            onnx.helper.make_node("Cast", ["half"], ["single"], to=onnx.TensorProto.FLOAT),
            onnx.helper.make_node("Mul", ["single", "down"], ["lowered"]),
        ]
        _insert(graph, norm, nodes)

    _edit(folder, change)


def _miss_softmax(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        softmax = _node(graph, "Softmax")
        logits = next(node for node in graph.node if node.output[0] == softmax.input[0])
        logits.output[0] = softmax.output[0]
        graph.node.remove(softmax)

    _edit(folder, change)


def _softmax_over_rows(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        next(held for held in _node(graph, "Softmax").attribute if held.name == "axis").i = 0

    _edit(folder, change)


def _train_norm(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        norm = _node(graph, "BatchNormalization")
        norm.attribute.append(onnx.helper.make_attribute("training_mode", 1))
        norm.output.extend(["new_mean", "new_var"])

    _edit(folder, change)


def _stale_weights(folder: Path) -> None:
    """The file of another candidate of the same architecture."""

    def change(graph: onnx.GraphProto) -> None:
        rng = np.random.default_rng(1)
        for name in [held.name for held in graph.initializer if held.name.endswith(".weight") and len(held.dims) > 1]:
            _change(graph, name, lambda values: rng.permutation(values.reshape(-1)).reshape(values.shape))

    _edit(folder, change)


def _double_activation_scale(folder: Path) -> None:
    """What leaves a quantizer is read with another scale than it was written with."""

    def change(graph: onnx.GraphProto) -> None:
        quantized = {node.output[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
        node = next(one for one in graph.node if one.op_type == "DequantizeLinear" and one.input[0] in quantized)
        held = next(one for one in graph.initializer if one.name == node.input[1])
        graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(held) * np.float32(2), "doubled"))
        node.input[1] = "doubled"

    _edit(folder, change)


def _double_weight_scale(folder: Path) -> None:
    """Of the last layer's first class; nothing in the file contradicts it, only the answers do."""

    def change(graph: onnx.GraphProto) -> None:
        node = next(one for one in graph.node if one.input[0].startswith("module.model.head.weight"))
        _change(graph, node.input[1], lambda scale: scale * np.array([2, 1, 1][: scale.size], np.float32))

    _edit(folder, change)


def _flip_in_openvino(folder: Path) -> None:
    from trimtab.convert.openvino_format import write_compressed
    from trimtab.runtime.openvino_cpu import openvino, read_model

    model = read_model(folder)
    op = next(one for one in model.get_ordered_ops() if one.get_type_name() == "Convolution")
    flipped = openvino.opset13.constant(_flip_channel(op.input_value(1).get_node().data.copy()))
    op.input(1).replace_source_output(flipped.output(0))
    write_compressed(model, folder)


MUTATIONS = (
    Mutation(
        "transposed weight", "image", ("first differs at model.hidden (Linear",), _weight("hidden.weight", np.transpose)
    ),
    Mutation(
        "dropped normalisation",
        "image",
        ("Conv", "up to input 'input' it agrees", "preprocess (aten.div)"),
        _drop_normalisation,
    ),
    Mutation("truncated ONNX file", "image", ("cannot be read", "model.onnx"), _truncate("model.onnx")),
    Mutation("truncated OpenVINO weights", "image-openvino", ("cannot load what was written",), _truncate("model.bin")),
    Mutation(
        "truncated TorchScript file", "image-torchscript", ("cannot load what was written",), _truncate("model.pt")
    ),
    Mutation("swapped classes", "image", ("first differs at model.head (Linear",), _swap_classes),
    Mutation("batch fixed in the signature", "image", ("batch size of ['input'] came out fixed",), _fix_batch),
    Mutation("batch frozen at 1 in the graph", "image", ("at batch 2",), _freeze_batch),
    Mutation("branch frozen at the example's length", "branch", ("at batch 1", "Branch, aten.neg"), _freeze_branch),
    Mutation(
        "constant saved with wrong strides",
        "image",
        ("first differs at model.conv (Conv2d",),
        _weight("conv.weight", _wrong_strides),
    ),
    Mutation("input dropped", "pair", ("inputs are ['left']", "expected ['left', 'right']"), _drop_input),
    Mutation("inputs swapped", "pair", ("first differs at model.first (Linear",), _swap_inputs),
    Mutation("outputs swapped", "several", ("output 'near': answers differ",), _swap_outputs),
    Mutation("int64 narrowed", "tokens", ("first differs at model.embedding (Embedding",), _narrow),
    Mutation("softmax missing", "image", ("softmax", "is missing", "result of model.head (Linear"), _miss_softmax),
    Mutation("softmax over the wrong axis", "image", ("first differs at softmax", "Softmax"), _softmax_over_rows),
    Mutation("batch norm left in training mode", "image", ("training",), _train_norm),
    Mutation(
        "sign of one channel flipped", "image", ("first differs at model.conv",), _weight("conv.weight", _flip_channel)
    ),
    Mutation("sign of one channel flipped, OpenVINO", "image-openvino", ("at model.conv (Conv2d",), _flip_in_openvino),
    Mutation("FP16 overflow", "image", ("not finite", "model.norm (BatchNorm2d"), _overflow),
    Mutation("stale weights of another candidate", "image", ("first differs at model.conv (Conv2d",), _stale_weights),
    Mutation("activation scale off by 2", "image-int8", ("another scale",), _double_activation_scale),
    Mutation("weight scale off by 2", "image-int8", ("decisions differ", "model.head (Linear"), _double_weight_scale),
)


def caught(home: Path) -> dict[str, str]:
    """What is said against each mutation; "" where nothing is, or not the right words.

    Args:
        home: an empty folder, for the right conversions and the broken copies.
    """
    known, said = worlds(), {}
    for name, world in known.items():
        (home / name).mkdir()
        make(world, home / name)
    for index, mutation in enumerate(MUTATIONS):
        broken = home / f"broken-{index}"
        shutil.copytree(home / mutation.world, broken)
        mutation.mutate(broken)
        message = objection(known[mutation.world], broken) or ""
        said[mutation.name] = message if all(word in message for word in mutation.words) else ""
    return said
