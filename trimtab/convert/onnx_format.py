"""ONNX: one file `model.onnx`, by the exporter built on torch.export, else by the one built on TorchScript."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import nn
from torch.onnx._internal.exporter import _registration

from trimtab.convert.graph import OUTPUT, Positional, example_tensors, measured_spec, outputs_of, refuse_unfit
from trimtab.convert.job import Job
from trimtab.convert.movement import without_shortcut_copies
from trimtab.convert.onnx_metadata import describe
from trimtab.convert.probing import check_answers
from trimtab.convert.tracing import exported, first_line, frozen, is_refusal, quiet, traced, unrolled
from trimtab.errors import ConversionError
from trimtab.free_axes import FIXED, Axes, axes_of
from trimtab.runtime.onnxruntime_cpu import Predictor, open_session

Array = NDArray[Any]
TARGET = "onnxruntime-cpu"
# A protobuf ends at 2 GiB; weights beyond this go to a side-file.
SINGLE_FILE_BYTES = 1_500_000_000


def write(job: Job) -> list[str]:
    """Write a deployed module as `model.onnx`; see `export_onnx`."""
    out = job.out / "model.onnx"
    notes = export_onnx(job.module, job.example, out, job.opset, axes_of(job.spec))
    describe(out, job.candidate, job.precision, job.spec)
    return notes


def write_graph(job: Job) -> list[str]:
    """Copy a rewritten graph and its side-files.

    Raises:
        ConversionError: it is not a usable ONNX file.
    """
    notes = check_file(job.graph, list(job.example), job.outputs, axes_of(job.spec))
    shutil.copyfile(job.graph, job.out / "model.onnx")
    for path in side_files(job.graph):
        shutil.copyfile(path, job.out / path.name)
    describe(job.out / "model.onnx", job.candidate, job.precision, job.spec)
    return [f"the {job.precision} ONNX graph as it is", *notes]


def export_onnx(
    module: nn.Module,
    example: Mapping[str, Array],
    out: Path,
    opset: int | None = None,
    axes: Axes = FIXED,
) -> list[str]:
    """Write a deployed module as ONNX with a dynamic batch, and check that the file answers like it.

    Args:
        module: deployed module in eval mode.
        example: inputs name → array (n, ...); names and order become the graph's.
        out: path of the .onnx file; weights beyond 1.5 GB go to `<out>.data` beside it.
        opset: operator set to write; None: the exporter's own.
        axes: of inputs, besides the batch, that stay dynamic.

    Returns:
        Notes for the reader: which exporter was used, and why.

    Raises:
        UnsupportedError: a layer cannot be deployed.
        ConversionError: both exporters failed, the code decides by values, by the batch size or by that of a free
            axis, or the file does not answer like the module.
    """
    refuse_unfit(module)
    module, moved = without_shortcut_copies(module, example, axes)
    large = sum(tensor.nbytes for tensor in module.state_dict().values()) > SINGLE_FILE_BYTES
    try:
        notes = [_by_export(module, example, out, large, opset, axes)]
    except Exception as error:
        if is_refusal(error) and not unrolled(module, error, axes):
            raise frozen(module, example, error, TARGET, axes) from None
        notes = [_by_script(module, example, out, large, opset, error, axes)]
    notes += [*moved, *check_file(out, list(example), outputs_of(module), axes)]
    _check_opset(out, opset)
    predictor = Predictor(open_session(out, threads=1), measured_spec(module, example, axes))
    check_answers(module, example, predictor.predict, TARGET, axes=axes)
    return notes


def _by_export(
    module: nn.Module, example: Mapping[str, Array], out: Path, large: bool, opset: int | None, axes: Axes
) -> str:
    program = exported(module, example, axes=axes)
    with quiet(), _registry_once():
        written = torch.onnx.export(
            program,
            dynamo=True,
            input_names=list(example),
            output_names=outputs_of(module),
            opset_version=opset,
            verbose=False,
        )
        assert written is not None  # it returns None only for the TorchScript-based exporter
        # Each node carries the Python stack it came from: file names of this machine, a tenth of a small file.
        ClearMetadataAndDocStringPass()(written.model)
        written.save(str(out), external_data=large)
    return "exporter: torch.onnx on torch.export"


def _by_script(
    module: nn.Module,
    example: Mapping[str, Array],
    out: Path,
    large: bool,
    opset: int | None,
    why: BaseException,
    axes: Axes,
) -> str:
    traced(module, example, TARGET, axes)  # raises if a trace froze a decision
    reason = f"{type(why).__name__}: {first_line(why)[:300]}"
    spec = measured_spec(module, example, axes)
    try:
        with quiet():
            torch.onnx.export(
                Positional(module, list(example)).eval(),
                example_tensors(example, axes=axes),
                str(out),
                dynamo=False,
                external_data=large,
                opset_version=opset,
                input_names=list(example),
                output_names=outputs_of(module),
                dynamic_axes={
                    tensor["name"]: {place: size for place, size in enumerate(tensor["shape"]) if isinstance(size, str)}
                    for tensor in (*spec["inputs"], *spec["outputs"])
                },
            )
    except Exception as error:
        raise ConversionError(
            f"neither exporter can write it: torch.export-based: {reason}; TorchScript-based: "
            f"{type(error).__name__}: {first_line(error)[:300]}",
            where=TARGET,
            fix="replace the operation they name, or take the target out of `targets`",
        ) from None
    return f"exporter: torch.onnx on TorchScript, because the one on torch.export failed ({reason})"


@contextmanager
def _registry_once() -> Iterator[None]:
    """Build the exporter's table of operators once a process instead of at each export.

    torch 2.13 compiles 500 onnxscript functions anew each time: half of an export of a small model. The table depends
    on the opset only, and is not written to unless a custom translation table is given, which is never done here.
    Called inside `quiet`, which lets one export through at a time.
    """
    registry = _registration.ONNXRegistry
    original = registry.__dict__["from_torchlib"]
    registry.from_torchlib = staticmethod(functools.partial(_table, original.__func__, registry))  # type: ignore
    try:
        yield
    finally:
        registry.from_torchlib = original  # type: ignore[method-assign]


@functools.cache
def _table(build: Callable[..., Any], registry: type, opset_version: int) -> Any:
    return build(registry, opset_version=opset_version)


def side_files(graph: Path) -> list[Path]:
    """Files beside an ONNX file that hold its weights, each there and not empty.

    Raises:
        ConversionError: one is missing, empty, or outside the file's folder; or the file itself cannot be read.
    """
    try:
        model = onnx.load(str(graph), load_external_data=False)
    except Exception as error:
        raise ConversionError(
            f"the ONNX file cannot be read: {type(error).__name__}: {first_line(error)}",
            where=str(graph),
            fix="it is damaged or not whole: convert again",
        ) from None
    names = {ExternalDataInfo(tensor).location for tensor in model.graph.initializer if uses_external_data(tensor)}
    paths = [graph.parent / name for name in sorted(names)]
    for path in paths:
        if Path(path.name) != path.relative_to(graph.parent) or not path.is_file() or path.stat().st_size == 0:
            raise ConversionError(
                "the side-file with weights is missing, empty or in another folder", where=str(path), fix="export again"
            )
    return paths


def check_file(graph: Path, names: list[str], answers: Sequence[str] = (OUTPUT,), axes: Axes = FIXED) -> list[str]:
    """Check an ONNX file: valid, names as given, a dynamic batch, nothing in training mode, quantizers in pairs.

    Args:
        names: of inputs, answers: of outputs, both in order.
        axes: of inputs that must be dynamic besides the batch.

    Returns:
        Notes: inputs that do not influence the answer.

    Raises:
        ConversionError: it is not so.
    """
    side_files(graph)
    held = onnx.load(str(graph), load_external_data=False)
    training = [
        node.name
        for node in held.graph.node
        if node.op_type == "BatchNormalization" and any(a.name == "training_mode" and a.i for a in node.attribute)
    ]
    if training:  # before the checker, which only says that outputs are missing
        raise _invalid(f"batch norm in training mode: {training}")
    try:
        onnx.checker.check_model(str(graph), full_check=True)
    except Exception as error:
        raise _invalid(f"onnx.checker: {str(error).strip()[:500]}") from None
    model = held.graph
    inputs = {value.name: value for value in model.input}
    outputs = [value.name for value in model.output]
    if list(inputs) != names or outputs != list(answers):
        raise _invalid(f"its inputs are {list(inputs)} and outputs {outputs}, expected {names} and {list(answers)}")
    fixed = [name for name, value in inputs.items() if value.type.tensor_type.shape.dim[0].HasField("dim_value")]
    if fixed:
        raise _invalid(f"the batch size of {fixed} came out fixed")
    for name, places in axes.items():
        sizes = inputs[name].type.tensor_type.shape.dim
        if stuck := [axis.name for place, axis in places.items() if sizes[place].HasField("dim_value")]:
            raise _invalid(f"the size of {stuck} of {name!r} came out fixed")
    if unequal := _unequal_pairs(model):
        raise _invalid(f"what was quantized is read with another scale or zero point: {unequal}")
    used = {name for node in model.node for name in node.input}
    return [
        f"input {name!r} does not influence the answer; it stays in the signature" for name in names if name not in used
    ]


def _unequal_pairs(graph: onnx.GraphProto) -> list[str]:
    """Tensors that are written by a quantizer of one scale and read by one of another."""
    held = {tensor.name: tensor for tensor in graph.initializer}

    def same(one: str, other: str) -> bool:
        if one == other or one not in held or other not in held:
            return True
        return np.array_equal(numpy_helper.to_array(held[one]), numpy_helper.to_array(held[other]))

    written = {node.output[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    pairs = [
        (written[node.input[0]], node)
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in written
    ]
    return [
        writer.input[0]
        for writer, reader in pairs
        if not all(same(one, other) for one, other in zip(writer.input[1:], reader.input[1:], strict=False))
    ]


def _check_opset(graph: Path, wanted: int | None) -> None:
    found = {item.domain: item.version for item in onnx.load(str(graph), load_external_data=False).opset_import}
    if wanted is not None and found.get("") != wanted:
        raise ConversionError(
            f"the exporter wrote opset {found.get('')}, not {wanted}",
            where="convert.opset",
            fix="give another opset, or null for the exporter's own",
        )


def _invalid(detail: str) -> ConversionError:
    return ConversionError(f"the ONNX file is not usable: {detail}", where=TARGET, fix="check the model's forward")
