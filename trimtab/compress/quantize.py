"""INT8 quantization with ONNX Runtime, on the whole deployed graph: static in QDQ form, or dynamic.

Static quantization makes three choices, the same on every host, because a candidate's bytes must not depend on where it
was made:

* Activations are unsigned and asymmetric, weights signed and symmetric (U8S8), with `reduce_range`: weights keep 7
  bits. On x86 without VNNI, ONNX Runtime multiplies with VPMADDUBSW, which adds two products in 16 bits with
  saturation: 2 * 255 * 127 = 64770 > 32767 is clipped, 2 * 255 * 64 = 32640 is not. S8S8 is no way out, it runs in the
  same kernel there. Measured on such a CPU (AVX2; digits, 897 rows, per channel): float 0.980; 8 bits 0.968 with 1.6 %
  of the decisions changed, U8S8 and S8S8 alike; 7 bits 0.980 with none changed. OpenVINO lost nothing with 7 or 8 bits.
* Pre-processing stays in float: columns of a table differ by orders of magnitude before they are scaled, and one
  scale for the whole raw input would round the small ones to zero.
* Logits and softmax stay in float, while the last layer itself is in INT8: accuracy was the same either way, but a
  grid of 256 logits can tie the best two classes where they are many, and the graph is two nodes shorter.

Dynamic quantization needs no calibration rows: the range of an activation is that of the batch at hand, which costs a
pass over it at every layer, and makes a row's answer depend on the rows it is sent with. Only matrix products and
convolutions are quantized, everything between them is float. Weights keep 7 bits here too.
"""

from __future__ import annotations

import io
import logging
import math
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.calibrate import load_tensors_data
from onnxruntime.quantization.shape_inference import quant_pre_process

from trimtab.compress.calibration import Rows, calibration_rows, histogram_ranges, notes_on_rows
from trimtab.compress.graph_weights import LAYERS, float_weights
from trimtab.errors import CalibrationError, UnsupportedError
from trimtab.recipe.schema import Quantize
from trimtab.runtime.onnxruntime_cpu import open_session

Array = np.ndarray
METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}
DYNAMIC_NOTE = "ranges of activations are each batch's own: a row's answer depends on the rows it is sent with"


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
        calibration: name → array (n, ...), raw rows for the ranges of activations; not read in dynamic mode.
        training: the same of all training rows, to check that the ranges agree; not read in dynamic mode.
        settings: the recipe's compress.quantize.

    Returns:
        Facts: {"precision": "int8" or "int8-dynamic", "mode", "calibration" (None: dynamic), "activations",
        "weights", "quantized_nodes", "weights_quantized": share of the weights of convolutions and linear layers,
        "notes"}; static also {"calibration_rows", "calibration_rows_requested", "float_nodes"}.

    Raises:
        CalibrationError: the rows are too few, not finite or of another range, or a tensor has no finite range.
        UnsupportedError: the graph has no layer that can be quantized.
    """
    with tempfile.TemporaryDirectory(prefix="trimtab-quantize-") as folder, _silent():
        if settings.mode == "dynamic":
            return _dynamic(fp32_onnx, settings, out, Path(folder))
        return _static(fp32_onnx, calibration_rows(calibration, training, settings), settings, out, Path(folder))


def _static(fp32_onnx: Path, rows: Mapping[str, Array], settings: Quantize, out: Path, folder: Path) -> dict[str, Any]:
    used = len(next(iter(rows.values())))
    ready, before = _prepared(fp32_onnx, folder)
    kept_float = _float_nodes(before)
    _calibrated(ready, folder / "int8.onnx", rows, settings, kept_float)
    graph = onnx.load(folder / "int8.onnx")
    quantized, share = _quantized(graph, before, fp32_onnx)
    _free_output(graph)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, out)
    return {
        "precision": "int8",
        "mode": "static",
        "calibration": settings.calibration,
        "calibration_rows": used,
        "calibration_rows_requested": settings.calibration_rows,
        "activations": "uint8",
        "weights": _form(settings),
        "quantized_nodes": quantized,
        "weights_quantized": share,
        "float_nodes": sorted(node.name for node in graph.graph.node if node.name in kept_float),
        "notes": notes_on_rows(used, settings),
    }


def _dynamic(fp32_onnx: Path, settings: Quantize, out: Path, folder: Path) -> dict[str, Any]:
    ready, before = _prepared(fp32_onnx, folder)
    draft, notes = folder / "int8.onnx", [DYNAMIC_NOTE]
    _quantize_dynamic(ready, draft, settings, ["MatMul", "Gemm", "Conv"])
    try:
        open_session(draft, threads=1)
    except Exception as error:  # no kernel for ConvInteger: it depends on the version of ONNX Runtime, not on the CPU
        notes.append(f"convolutions stay in float, ONNX Runtime cannot run them: {str(error).strip()[:200]}")
        _quantize_dynamic(ready, draft, settings, ["MatMul", "Gemm"])
    graph = onnx.load(draft)
    quantized, share = _quantized(graph, before, fp32_onnx)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, out)
    return {
        "precision": "int8-dynamic",
        "mode": "dynamic",
        "calibration": None,
        "activations": "uint8, ranges of each batch",
        "weights": _form(settings),
        "quantized_nodes": quantized,
        "weights_quantized": share,
        "notes": notes,
    }


def _quantize_dynamic(ready: Path, draft: Path, settings: Quantize, operators: list[str]) -> None:
    quantize_dynamic(
        str(ready),
        str(draft),
        op_types_to_quantize=operators,
        per_channel=settings.per_channel,
        reduce_range=True,
        weight_type=QuantType.QInt8,
    )


def _prepared(fp32_onnx: Path, folder: Path) -> tuple[Path, onnx.ModelProto]:
    """The graph with shapes inferred, constants folded and nodes named."""
    ready = folder / "ready.onnx"
    quant_pre_process(str(fp32_onnx), str(ready))
    graph = onnx.load(ready)
    _name_nodes(graph)
    onnx.save(graph, ready)
    return ready, graph


def _calibrated(ready: Path, draft: Path, rows: Mapping[str, Array], settings: Quantize, kept_float: set[str]) -> None:
    """Quantize in QDQ form with the ranges that the rows give."""

    def write(method: CalibrationMethod, ranges: Path) -> None:
        quantize_static(
            str(ready),
            str(draft),
            Rows(rows),
            quant_format=QuantFormat.QDQ,
            calibrate_method=method,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=settings.per_channel,
            reduce_range=True,
            nodes_to_exclude=sorted(kept_float),
            # MatMul with two activations (attention) stays in float, and is not counted as a quantized layer.
            extra_options={"MatMulConstBOnly": True},
            calibration_cache_path=ranges,
        )

    ranges, plain = draft.with_name("ranges.json"), draft.with_name("minmax.json")
    method = METHODS[settings.calibration]
    try:
        if method != CalibrationMethod.MinMax:
            histogram_ranges(ready, rows, method, draft.with_name("outputs.onnx"), ranges)
        write(method, ranges)
    except (AssertionError, ValueError):
        # ONNX Runtime's "scale issue", and NumPy's refusal of a histogram, do not say where.
        with suppress(AssertionError):
            write(CalibrationMethod.MinMax, plain)
        _check_ranges(plain, onnx.load(ready))
        raise
    _check_ranges(ranges, onnx.load(ready))


def _form(settings: Quantize) -> str:
    return "int8 reduced to 7 bits, " + ("per channel" if settings.per_channel else "per tensor")


@contextmanager
def _silent() -> Iterator[None]:
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
        if node.op_type not in LAYERS and any(name in raw for name in fed):
            before.add(node.name)
            raw |= set(node.output)
    return before | {node.name for node in graph.graph.node if node.op_type == "Softmax"}


def _quantized(graph: onnx.ModelProto, before: onnx.ModelProto, source: Path) -> tuple[int, float]:
    """Number of layers that are quantized, and the share of the weights of all layers that is theirs."""
    sizes = {item.name: math.prod(item.dims) for item in graph.graph.initializer}
    dequantized = {n.output[0]: n.input[0] for n in graph.graph.node if n.op_type == "DequantizeLinear"}
    nodes, integers = 0, set()
    for node in graph.graph.node:
        if node.op_type in LAYERS and all(name in dequantized for name in list(node.input)[:2]):
            integers.add(dequantized[node.input[1]])
        elif node.op_type in ("MatMulInteger", "ConvInteger"):
            integers.add(node.input[1])
        else:
            continue
        nodes += 1
    total = sum(values.size for values in float_weights(before).values())
    done = sum(sizes.get(name, 0) for name in integers)
    if not done:
        raise UnsupportedError(
            f"0 of {total} weights quantized: no convolution or linear layer with constant weights can be",
            where=source.name,
            fix="set compress.quantize to null",
        )
    return nodes, done / total


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
