"""What each operation of a converted graph gives for some rows: the graph is opened, and every result made an output.

One function a format, each from the files a release ships: nothing is exported again.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
# Names that exporters leave: of weights in ONNX, OpenVINO and torch.export, of operations in OpenVINO. Of a module that
# was captured to rewrite its shortcuts (`movement.Rewritten`) every operation is in the scope of the captured graph,
# which says nothing; its weights still have the module's names.
_WEIGHT = re.compile(r"^(?:self\.)?module\.(?:captured\.module\.|(?!captured\.))(.+)\.[^.]+$")
_SCOPE = re.compile(r"^__module\.module\.(?!captured/)(.+?)/aten::")


@dataclass(frozen=True)
class Operation:
    """One operation of a converted graph.

    Attributes:
        name: of its result. kind: e.g. "Conv".
        reads: names of the results and graph inputs it reads; without those that depend on no input.
        layer: the torch module it came from, if a name in the graph says so, else "".
        array: its result if floating point, else None.
    """

    name: str
    kind: str
    reads: tuple[str, ...]
    layer: str
    array: Array | None


Opened = tuple[list[Operation], str]  # in the order of the graph, and which of them gives the answer


def operations(target: str, folder: Path, inputs: Mapping[str, Array], output: int = 0) -> list[Operation]:
    """Operations that depend on an input, in the order in which they are computed; the last gives the answer.

    Args:
        target: one of `OPENERS`.
        folder: as converted.
        inputs: name → array (n, ...), as the graph takes them.
        output: which output is the answer, by its place.

    Raises whatever the runtime raises.
    """
    found, answer = OPENERS[target](folder, inputs, output)
    # What leads to another output, or nothing reads, may come after it.
    return sorted(_dynamic(found, set(inputs)), key=lambda one: one.name == answer)


def _dynamic(found: list[Operation], known: set[str]) -> list[Operation]:
    kept = []
    for one in found:
        reads = tuple(name for name in one.reads if name in known)
        if reads:
            known.add(one.name)
            kept.append(Operation(one.name, one.kind, reads, one.layer, one.array))
    return kept


def _onnx(folder: Path, inputs: Mapping[str, Array], output: int) -> Opened:
    import onnx

    from trimtab.runtime.onnxruntime_session import onnxruntime

    model = onnx.load(str(folder / "model.onnx"), load_external_data=False)
    graph = model.graph
    outputs = [value.name for value in graph.output]
    results = [name for node in graph.node for name in node.output if name]
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in results if name not in outputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Else operations are fused, and a name no longer stands for the same result.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with tempfile.TemporaryDirectory(prefix="trimtab-opened-") as draft:
        onnx.save(model, str(Path(draft) / "model.onnx"))
        for path in folder.glob("*.data"):
            shutil.copyfile(path, Path(draft) / path.name)
        session = onnxruntime.InferenceSession(
            str(Path(draft) / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        taken = {value.name for value in session.get_inputs()}
        values = session.run(results, {name: array for name, array in inputs.items() if name in taken})
    arrays = dict(zip(results, values, strict=True))
    found = [
        Operation(name, node.op_type, tuple(node.input), _layer_of(list(node.input)), _float(arrays[name]))
        for node in graph.node
        for name in node.output
        if name
    ]
    return found, outputs[output]


def _openvino(folder: Path, inputs: Mapping[str, Array], output: int) -> Opened:
    from trimtab.runtime.openvino_cpu import openvino, read_model

    model = read_model(folder)
    answer = _port_name(model.get_results()[output].input_value(0))
    kept = [op for op in model.get_ordered_ops() if op.get_type_name() not in ("Result", "Constant", "Parameter")]
    model.add_outputs([(op.get_friendly_name(), port) for op in kept for port in range(op.get_output_size())])
    # What was an output before is not added again: results are found by what they read, not by their number.
    places = {_port_name(result.input_value(0)): place for place, result in enumerate(model.get_results())}
    config = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1, "CACHE_DIR": ""}
    request = openvino.Core().compile_model(model, "CPU", config).create_infer_request()
    request.infer(dict(inputs))
    found: list[Operation] = []
    for op in kept:
        sources = [value.get_source_output() for value in op.inputs()]
        reads = tuple(_port_name(source) for source in sources)
        scope = _SCOPE.match(op.get_friendly_name())
        layer = scope.group(1) if scope else _layer_of([source.get_node().get_friendly_name() for source in sources])
        for port in op.outputs():
            name = _port_name(port)
            array = np.array(request.get_output_tensor(places[name]).data)
            found.append(Operation(name, op.get_type_name(), reads, layer, _float(array)))
    return found, answer


def _port_name(port: Any) -> str:
    node = port.get_node()
    name = str(node.get_friendly_name())
    return name if node.get_output_size() == 1 else f"{name}:{port.get_index()}"


def _torchscript(folder: Path, inputs: Mapping[str, Array], output: int) -> Opened:
    import torch

    script = torch.jit.load(str(folder / "model.pt"), map_location="cpu").eval()
    graph = script.inlined_graph.copy()
    own = next(graph.inputs())
    if list(own.uses()):  # not frozen: weights are attributes of the module, which a bare graph does not have
        return [], ""
    graph.eraseInput(0)
    # Results of nested blocks (a prim::If) are seen where they leave the block.
    tensors = [value for node in graph.nodes() for value in node.outputs() if str(value.type()) == "Tensor"]
    # What nothing reads may be no tensor at all (the weights of an attention that were not asked for).
    dynamic = [value for value in tensors if value.node().kind() != "prim::Constant" and list(value.uses())]
    reads = [tuple(read.debugName() for read in _read_by(value.node())) for value in dynamic]
    names = dict(zip([value.debugName() for value in graph.inputs()], inputs, strict=True))
    answers = [next(graph.outputs())]
    if answers[0].node().kind() == "prim::TupleConstruct":
        answers = list(answers[0].node().inputs())
    answer = answers[output].debugName()
    graph.eraseOutput(0)
    for value in dynamic:
        graph.registerOutput(value)
    graph.makeMultiOutputIntoTuple()
    facts = [(value.debugName(), value.node().kind()) for value in dynamic]
    run = torch._C._create_function_from_graph("opened", graph)
    with torch.no_grad():
        values = run(*(torch.tensor(array) for array in inputs.values()))
    values = values if isinstance(values, tuple) else (values,)
    found = [
        Operation(name, kind, tuple(names.get(read, read) for read in read_by), "", _float(value.numpy()))
        for (name, kind), read_by, value in zip(facts, reads, values, strict=True)
    ]
    return found, answer


def _read_by(node: Any) -> Iterator[Any]:
    """Also by what is nested in it (a prim::If)."""
    yield from node.inputs()
    for block in node.blocks():
        for inner in block.nodes():
            yield from _read_by(inner)


def _torch_export(folder: Path, inputs: Mapping[str, Array], output: int) -> Opened:
    import torch

    from trimtab.runtime.pt2_archive import open_program

    module = open_program((folder / "model.pt2").read_bytes()).module()
    assert isinstance(module, torch.fx.GraphModule)
    results: dict[torch.fx.Node, Array | None] = {}

    class Keeper(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            result = super().run_node(n)
            if n.op == "call_function":  # a copy, because a later operation may write into the same memory
                results[n] = _float(result.numpy().copy()) if isinstance(result, torch.Tensor) else None
            return result

    with torch.no_grad():
        Keeper(module).run(*(torch.tensor(array) for array in inputs.values()))
    taken = [node for node in module.graph.nodes if node.op == "placeholder"]
    names = dict(zip(taken, inputs, strict=True))
    names |= {node: str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    answers = torch.utils._pytree.tree_leaves(module.graph.output_node().args)
    found = []
    for node, array in results.items():
        reads = [names.get(read, read.name) for read in node.all_input_nodes]
        kind = getattr(node.target, "__name__", str(node.target)).rsplit(".", 1)[0]
        found.append(Operation(node.name, kind, tuple(reads), _layer_of(reads), array))
    return found, answers[output].name


def _layer_of(names: list[str]) -> str:
    found = [match.group(1) for name in names if (match := _WEIGHT.match(name))]
    return found[0] if found else ""


def _float(array: Array) -> Array | None:
    return array.astype(np.float32) if array.dtype.kind == "f" and array.size else None


OPENERS: dict[str, Callable[[Path, Mapping[str, Array], int], Opened]] = {
    "onnxruntime-cpu": _onnx,
    # The file is the same, and is opened on the CPU: what only the GPU makes of it is not seen.
    "onnxruntime-cuda": _onnx,
    "onnxruntime-tensorrt": _onnx,
    "openvino-cpu": _openvino,
    "torchscript-cpu": _torchscript,
    "torch-export-cpu": _torch_export,
}
