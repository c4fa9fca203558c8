"""OpenVINO IR: `model.xml.gz` and `model.bin`, from a traced torch module or from a compressed graph.

The weights are compressed too, `model.bin.gz`, where a tenth is saved by it and they are few: INT8 weights shrink by a
fifth, those in FP32 hardly. Many stay plain, so that processes that serve them map one copy of the file.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import nn

# First of the two: it keeps `import openvino` from sending its usage event.
from trimtab.runtime import openvino_cpu  # noqa: F401  isort: skip
import openvino

from trimtab.convert.graph import example_tensors, outputs_of, refuse_unfit
from trimtab.convert.job import Job
from trimtab.convert.movement import without_shortcut_copies
from trimtab.convert.tracing import quiet, traced
from trimtab.errors import ConversionError
from trimtab.free_axes import FIXED, Axes, axes_of, by_name
from trimtab.targets import NNCF, STORED

Array = NDArray[Any]
TARGET = "openvino-cpu"
COMPRESSED_BYTES = 2**24  # of weights that are looked at; opening so many takes a tenth of a second more
WORTH_IT = 0.9
_COUNTED = re.compile(r"[A-Za-z]+_\d+(/.*)?$")  # and what NNCF appends to such a name


def write(job: Job) -> list[str]:
    """Write a deployed module; see `write_openvino`."""
    return write_openvino(job.module, job.example, job.out, axes_of(job.spec))


def write_graph(job: Job) -> list[str]:
    """Write a rewritten graph: NNCF's as it is, an ONNX one converted.

    Raises:
        ConversionError: it is not usable, or OpenVINO cannot read it.
    """
    if job.precision == NNCF:
        return copy_compressed(job.graph, job.out)
    from trimtab.convert.onnx_format import check_file

    notes = check_file(job.graph, list(job.example), job.outputs, axes_of(job.spec))
    convert = write_openvino_unfolded if job.precision in STORED else write_openvino_from_onnx
    return [*convert(job.graph, job.out), *notes]


def write_openvino(module: nn.Module, example: Mapping[str, Array], out: Path, axes: Axes = FIXED) -> list[str]:
    """Convert a deployed module.

    Args:
        module: deployed module in eval mode.
        example: inputs name → array (n, ...).
        out: folder the two files are written to.
        axes: of inputs, besides the batch, that stay dynamic within their bounds.

    Returns:
        Notes for the reader.

    Raises:
        UnsupportedError: a layer cannot be deployed. ConversionError: tracing or conversion failed.
    """
    refuse_unfit(module)
    module, moved = without_shortcut_copies(module, example, axes)
    script = traced(module, example, TARGET, axes)
    try:
        with quiet():
            model = openvino.convert_model(script, example_input=example_tensors(example, axes=axes))
    except Exception as error:
        raise ConversionError(
            f"the converter raised {type(error).__name__}: {str(error).strip()[:2000]}",
            where=TARGET,
            fix="take openvino-cpu out of `targets`, or replace the operation it names",
        ) from None
    notes = _name(model, example, outputs_of(module), axes)
    write_compressed(model, out)
    return ["OpenVINO from a traced torch module, weights FP32", *moved, *notes]


def write_openvino_from_onnx(graph: Path, out: Path) -> list[str]:
    """Convert a quantized ONNX graph; its quantize/dequantize pairs become INT8 layers when it is compiled.

    Args:
        graph: the ONNX file.
        out: folder the two files are written to.

    Raises:
        ConversionError: OpenVINO cannot read the graph.
    """
    try:
        # Not Core.read_model: this one simplifies the graph before it is saved, which halves the .xml of a small model.
        with quiet():
            model = openvino.convert_model(str(graph))
    except Exception as error:
        raise ConversionError(
            f"OpenVINO cannot read the quantized graph: {str(error).strip()[:2000]}",
            where=TARGET,
            fix="take openvino-cpu out of `targets`",
        ) from None
    write_compressed(model, out)
    return ["OpenVINO from the quantized ONNX graph"]


def write_openvino_unfolded(graph: Path, out: Path) -> list[str]:
    """The ONNX graph node by node: `openvino.convert_model` would compute the weights, and write them in FP32.

    Raises:
        ConversionError: OpenVINO cannot read the graph.
    """
    try:
        model = openvino.Core().read_model(str(graph))
    except Exception as error:
        raise ConversionError(
            f"OpenVINO cannot read the graph: {str(error).strip()[:2000]}",
            where=TARGET,
            fix="take openvino-cpu out of `targets`",
        ) from None
    write_compressed(model, out)
    return ["OpenVINO from the ONNX graph, its weights stored as there"]


def copy_compressed(xml: Path, out: Path) -> list[str]:
    """Ship a candidate that is an OpenVINO model itself: `xml` and the .bin beside it, to the folder `out`."""
    _ship(xml, out, shutil.copyfile)
    return ["the INT8 OpenVINO model as NNCF left it"]


def write_compressed(model: openvino.Model, out: Path) -> None:
    """Write a model to the folder `out`; the same model gives the same bytes."""
    with tempfile.TemporaryDirectory(prefix=".openvino-", dir=out) as draft:
        plain = Path(draft) / "model.xml"
        save(model, plain)
        _ship(plain, out, os.replace)


def save(model: openvino.Model, xml: Path) -> None:
    """Write a model uncompressed, the .bin beside `xml`, under names that depend on the model alone."""
    _rename(model)
    # compress_to_fp16 is on by default (2026.4): the weights would no longer be the ones that were verified.
    openvino.save_model(model, str(xml), compress_to_fp16=False)


def _ship(xml: Path, out: Path, put: Callable[[Path, Path], object]) -> None:
    """Write a saved model to the folder `out`; `put` brings weights that stay plain to their place."""
    (out / "model.xml.gz").write_bytes(gzip.compress(xml.read_bytes(), mtime=0))
    weights, plain, packed = xml.with_suffix(".bin"), out / "model.bin", out / "model.bin.gz"
    smaller = _smaller(weights)
    if smaller is None:
        put(weights, plain)
        packed.unlink(missing_ok=True)  # of a model that was here before
    else:
        packed.write_bytes(smaller)
        plain.unlink(missing_ok=True)


def _smaller(weights: Path) -> bytes | None:
    """The file compressed, where that is worth it."""
    if weights.stat().st_size > COMPRESSED_BYTES:
        return None
    plain = weights.read_bytes()
    packed = gzip.compress(plain, mtime=0)
    return packed if len(packed) <= WORTH_IT * len(plain) else None


def _rename(model: openvino.Model) -> None:
    """Replace the names OpenVINO gives, "Multiply_2848" by a counter of the process, by a count a type in the model.

    Without it the same module gives other bytes at each conversion, and a layer could not be named in a recipe.
    """
    operations = [op for op in model.get_ordered_ops() if op.get_type_name() != "Parameter"]  # the user named those
    taken = {op.get_friendly_name() for op in operations if not _COUNTED.match(op.get_friendly_name())}
    seen: Counter[str] = Counter()
    for op in operations:
        if not _COUNTED.match(op.get_friendly_name()):
            continue
        kind, name = op.get_type_name(), ""
        while not name or name in taken:
            seen[kind] += 1
            name = f"{kind}:{seen[kind]}"
        op.set_friendly_name(name)
    model.set_friendly_name("model")


def _name(model: openvino.Model, example: Mapping[str, Array], outputs: Sequence[str], axes: Axes) -> list[str]:
    """Give inputs and output our names, sizes fixed but for the batch and free axes, and back every dropped input."""
    ports = model.inputs
    if len(ports) != len(example) or len(model.outputs) != len(outputs):
        raise ConversionError(
            f"the converted model has {len(ports)} inputs and {len(model.outputs)} outputs, expected {len(example)} "
            f"and {len(outputs)}",
            where=TARGET,
            fix="take openvino-cpu out of `targets`",
        )
    shapes = {}
    for port, (name, values) in zip(ports, example.items(), strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)
        free = {place: openvino.Dimension(axis.low, axis.high) for place, axis in axes.get(name, {}).items()}
        sizes = [free.get(place, openvino.Dimension(size)) for place, size in enumerate(values.shape)]
        shapes[port] = openvino.PartialShape([openvino.Dimension(), *sizes[1:]])
    try:
        model.reshape(shapes)
    except RuntimeError as error:
        raise ConversionError(
            f"OpenVINO cannot hold it with a free batch{''.join(f' and {name}' for name in by_name(axes))}: "
            f"{str(error).strip()[:500]}",
            where=TARGET,
            fix="take openvino-cpu out of `targets`, or replace the operation it names",
        ) from None
    for place, output in enumerate(outputs):
        model.output(place).get_tensor().set_names({output})
    return [
        f"input {name!r} does not influence the answer; it stays in the signature"
        for port, name in zip(ports, example, strict=True)
        if not port.get_target_inputs()
    ]
