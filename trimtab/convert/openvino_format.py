"""OpenVINO IR: `model.xml` and `model.bin`, from a traced torch module or from a quantized ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import nn

# First of the two: it keeps `import openvino` from sending its usage event.
from trimtab.runtime import openvino_cpu  # noqa: F401  isort: skip
import openvino

from trimtab.convert.graph import OUTPUT, example_tensors, refuse_unfit
from trimtab.convert.tracing import quiet, traced
from trimtab.errors import ConversionError

Array = NDArray[Any]
TARGET = "openvino-cpu"


def write_openvino(module: nn.Module, example: Mapping[str, Array], out: Path) -> list[str]:
    """Convert a deployed module.

    Args:
        module: deployed module in eval mode.
        example: inputs name → array (n, ...).
        out: path of the .xml file; the .bin file is written beside it.

    Returns:
        Notes for the reader.

    Raises:
        UnsupportedError: a layer cannot be deployed. ConversionError: tracing or conversion failed.
    """
    refuse_unfit(module)
    script = traced(module, example, TARGET)
    try:
        with quiet():
            model = openvino.convert_model(script, example_input=example_tensors(example))
    except Exception as error:
        raise ConversionError(
            f"the converter raised {type(error).__name__}: {str(error).strip()[:2000]}",
            where=TARGET,
            fix="take openvino-cpu out of `targets`, or replace the operation it names",
        ) from None
    notes = _name(model, example)
    _save(model, out)
    return ["OpenVINO from a traced torch module, weights FP32", *notes]


def write_openvino_from_onnx(graph: Path, out: Path) -> list[str]:
    """Convert a quantized ONNX graph; its quantize/dequantize pairs become INT8 layers when it is compiled.

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
    _save(model, out)
    return ["OpenVINO from the quantized ONNX graph"]


def _save(model: openvino.Model, out: Path) -> None:
    # compress_to_fp16 is on by default (2026.4): the weights would no longer be the ones that were verified.
    openvino.save_model(model, str(out), compress_to_fp16=False)


def _name(model: openvino.Model, example: Mapping[str, Array]) -> list[str]:
    """Give inputs and output our names, fixed sizes but for the batch, and back every input that was dropped."""
    ports = model.inputs
    if len(ports) != len(example) or len(model.outputs) != 1:
        raise ConversionError(
            f"the converted model has {len(ports)} inputs and {len(model.outputs)} outputs, expected {len(example)} "
            "and 1",
            where=TARGET,
            fix="take openvino-cpu out of `targets`",
        )
    shapes = {}
    for port, (name, values) in zip(ports, example.items(), strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)
        shapes[port] = openvino.PartialShape([-1, *values.shape[1:]])
    model.reshape(shapes)
    model.output(0).get_tensor().set_names({OUTPUT})
    return [
        f"input {name!r} does not influence the answer; it stays in the signature"
        for port, name in zip(ports, example, strict=True)
        if not port.get_target_inputs()
    ]
