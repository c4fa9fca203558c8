"""Ranges of activations by each calibration method, as the JSON that ONNX Runtime's quantizer takes for its cache."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod
from onnxruntime.quantization.calibrate import TensorsData, load_tensors_data, save_tensors_data

from trimtab.compress.calibration import collected, histogram_ranges
from trimtab.compress.mse import mse_range
from trimtab.errors import CalibrationError

Array = np.ndarray
# Method of the recipe → the one that ONNX Runtime is told: ranges of ours come to it as if they were min and max.
METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
    "mse": CalibrationMethod.MinMax,
}

UNKNOWN = "see why the model computes NaN or infinity there for these rows"
MASK = (
    "if that is an attention mask, let it add a large negative number, e.g. -1e4; or use `mode: dynamic`, or "
    "compress.quantize_openvino, which both leave it in float"
)


def write_ranges(calibration: str, ready: Path, rows: Mapping[str, Array], out: Path) -> None:
    """Write the ranges to `out`; nothing for min-max, which the quantizer then finds itself.

    Raises:
        ValueError: a tensor has no finite range.
    """
    work = out.with_name("outputs.onnx")
    if calibration == "mse":
        _mse_ranges(ready, rows, work, out)
    elif calibration != "minmax":
        histogram_ranges(ready, rows, METHODS[calibration], work, out)


def _mse_ranges(ready: Path, rows: Mapping[str, Array], work: Path, out: Path) -> None:
    # ONNX Runtime 1.32 has no such method: its histograms are used, collected as for percentiles.
    found = collected(ready, rows, CalibrationMethod.Percentile, work).collector.get_histogram_dict()
    ranges = {
        name: tuple(
            np.array(end, dtype=np.asarray(low).dtype)
            for end in mse_range(counts, edges.astype(np.float64), float(low), float(high))
        )
        for name, (counts, edges, low, high, *_) in found.items()
    }
    save_tensors_data(TensorsData(CalibrationMethod.MinMax, ranges), out)


def check_ranges(cache: Path, graph: onnx.ModelProto) -> None:
    """Refuse activations that are NaN for all rows, or infinite; NaN beside finite ones is passed over.

    Raises:
        CalibrationError: naming the first such tensor.
    """
    found = dict(load_tensors_data(cache).items())
    # In the order of the graph: the first is where it begins, the rest follow from it.
    for tensor in [name for node in graph.graph.node for name in node.output if name in found]:
        data = found[tensor]
        low, high = (float(np.min(bound)) for bound in data.range_value)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise CalibrationError(
                f"the calibration rows give it no finite range: {low} … {high}",
                where=f"tensor {tensor}",
                fix=MASK if low == -math.inf and math.isfinite(high) else UNKNOWN,
            )
