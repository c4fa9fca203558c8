"""INT8 static quantization in QDQ form with ONNX Runtime, on the whole deployed graph.

Three choices, the same on every host, because a candidate's bytes must not depend on where it was made:

* Activations are unsigned and asymmetric, weights signed and symmetric (U8S8), with `reduce_range`: weights keep 7
  bits. On x86 without VNNI, ONNX Runtime multiplies with VPMADDUBSW, which adds two products in 16 bits with
  saturation: 2 * 255 * 127 = 64770 > 32767 is clipped, 2 * 255 * 64 = 32640 is not. S8S8 is no way out, it runs in the
  same kernel there. Measured on such a CPU (AVX2; digits, 897 rows, per channel): float 0.980; 8 bits 0.968 with 1.6 %
  of the decisions changed, U8S8 and S8S8 alike; 7 bits 0.980 with none changed. OpenVINO lost nothing with 7 or 8 bits.
* Pre-processing stays in float: columns of a table differ by orders of magnitude before they are scaled, and one
  scale for the whole raw input would round the small ones to zero.
* Logits and softmax stay in float, while the last layer itself is in INT8: accuracy was the same either way, but a
  grid of 256 logits can tie the best two classes where they are many, and the graph is two nodes shorter.
"""

from __future__ import annotations

import logging
import math
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import load_tensors_data
from onnxruntime.quantization.shape_inference import quant_pre_process

from trimtab.compress.calibration import Rows, calibration_rows
from trimtab.errors import CalibrationError, UnsupportedError
from trimtab.recipe.schema import Quantize

Array = np.ndarray
WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


def quantize(
    fp32_onnx: Path,
    calibration: Mapping[str, Array],
    training: Mapping[str, Array],
    settings: Quantize,
    out: Path,
) -> dict[str, Any]:
    """Quantize a deployed graph (pre-processing → model → softmax) and write it to `out`.

    Args:
        fp32_onnx: the graph; its inputs are raw rows, its one output the probabilities.
        calibration: name → array (n, ...), raw rows for the ranges of activations.
        training: the same of all training rows, to check that the ranges agree.

    Returns:
        Facts: {"calibration_rows", "calibration_rows_requested", "calibration", "activations", "weights",
        "quantized_nodes", "float_nodes", "notes"}.

    Raises:
        CalibrationError: the rows are too few, not finite or of another range, or a tensor has no finite range.
        UnsupportedError: the graph has no layer that can be quantized.
    """
    rows = calibration_rows(calibration, training, settings)
    used = len(next(iter(rows.values())))
    with tempfile.TemporaryDirectory(prefix="trimtab-quantize-") as folder, _silent():
        ready, draft = Path(folder) / "ready.onnx", Path(folder) / "int8.onnx"
        ranges = Path(folder) / "ranges.json"
        quant_pre_process(str(fp32_onnx), str(ready))
        graph = onnx.load(ready)
        _name_nodes(graph)
        onnx.save(graph, ready)
        kept_float = _float_nodes(graph)
        try:
            quantize_static(
                str(ready),
                str(draft),
                Rows(rows),
                quant_format=QuantFormat.QDQ,
                calibrate_method=CalibrationMethod.MinMax,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=settings.per_channel,
                reduce_range=True,
                nodes_to_exclude=sorted(kept_float),
                # MatMul with two activations (attention) stays in float, and is not counted as a quantized layer.
                extra_options={"MatMulConstBOnly": True},
                calibration_cache_path=ranges,
            )
        except AssertionError:
            # ONNX Runtime's "scale issue" does not say where.
            _check_ranges(ranges, graph)
            raise
        _check_ranges(ranges, graph)
        graph = onnx.load(draft)
    quantized = _quantized_nodes(graph)
    if not quantized:
        raise UnsupportedError(
            "0 layers can be quantized to INT8",
            where=str(fp32_onnx.name),
            fix="set compress.quantize to null: the model has no convolution or linear layer with constant weights",
        )
    _free_output(graph)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, out)
    return {
        "calibration_rows": used,
        "calibration_rows_requested": settings.calibration_rows,
        "calibration": "min-max",
        "activations": "uint8",
        "weights": "int8 reduced to 7 bits, " + ("per channel" if settings.per_channel else "per tensor"),
        "quantized_nodes": quantized,
        "float_nodes": sorted(node.name for node in graph.graph.node if node.name in kept_float),
        "notes": _notes(used, settings),
    }


def _notes(used: int, settings: Quantize) -> list[str]:
    if used < settings.calibration_rows:
        return [f"calibrated on {used} rows, fewer than the {settings.calibration_rows} asked for"]
    return []


@contextmanager
def _silent() -> Iterator[None]:
    """ONNX Runtime's quantizer logs each step to the root logger and warns about options; off for the block."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)


def _name_nodes(graph: onnx.ModelProto) -> None:
    # Nodes are excluded by name, and optimizers leave new ones without.
    taken = {node.name for node in graph.graph.node}
    for position, node in enumerate(graph.graph.node):
        if not node.name:
            name = f"{node.op_type}_{position}"
            node.name = name if name not in taken else f"{name}_unnamed"


def _float_nodes(graph: onnx.ModelProto) -> set[str]:
    """Names of the nodes before the first weighted layer of each path, and of softmax."""
    raw = {value.name for value in graph.graph.input}
    before = set()
    for node in graph.graph.node:  # topological order
        fed = [name for name in node.input if name]
        if node.op_type not in WEIGHTED and any(name in raw for name in fed):
            before.add(node.name)
            raw |= set(node.output)
    return before | {node.name for node in graph.graph.node if node.op_type == "Softmax"}


def _quantized_nodes(graph: onnx.ModelProto) -> int:
    from_integers = {out for node in graph.graph.node if node.op_type == "DequantizeLinear" for out in node.output}
    return sum(
        node.op_type in WEIGHTED and all(name in from_integers for name in list(node.input)[:2])
        for node in graph.graph.node
    )


def _free_output(graph: onnx.ModelProto) -> None:
    """Take the quantize-dequantize pair off the logits, so that softmax reads what the last layer computed."""
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
        softmax.input[0] = quantize_node.input[0]
        graph.graph.node.remove(dequantize)
        graph.graph.node.remove(quantize_node)
    read = {name for node in graph.graph.node for name in node.input}
    for item in [item for item in graph.graph.initializer if item.name not in read]:
        graph.graph.initializer.remove(item)


def _check_ranges(cache: Path, graph: onnx.ModelProto) -> None:
    """Refuse activations that are NaN for all rows, or infinite; NaN beside finite ones is passed over."""
    found = dict(load_tensors_data(cache).items())
    # In the order of the graph: the first is where it begins, the rest follow from it.
    for tensor in [name for node in graph.graph.node for name in node.output if name in found]:
        data = found[tensor]
        low, high = (float(np.min(bound)) for bound in data.range_value)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise CalibrationError(
                f"the calibration rows give it no finite range: {low} … {high}",
                where=f"tensor {tensor}",
                fix="see why the model computes NaN or infinity there for these rows",
            )
