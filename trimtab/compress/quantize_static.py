"""Static INT8 in QDQ form, written by ONNX Runtime's quantizer: calibrated once, then as often as is asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

from trimtab.compress.activation_ranges import METHODS, check_ranges, write_ranges
from trimtab.compress.calibration import Rows
from trimtab.compress.float_layers import keep_float
from trimtab.compress.learned_ranges import Ranges, put_into
from trimtab.compress.qdq_graph import beyond_the_quantizer, float_ends, free_output, prepared
from trimtab.recipe.schema import Quantize

Array = np.ndarray


@dataclass(frozen=True)
class Calibrated:
    """A float graph and the ranges of its activations: what an INT8 form of it is written from.

    Attributes:
        ready: file of the graph, prepared for the quantizer. before: the same graph.
        rows: name → array (n, ...), what it was calibrated on.
        ranges: file of the ranges. full: the graph with all that can be in INT8.
        ends: names of the nodes that always stay in float: pre-processing, softmax, what the quantizer fails at.
    """

    ready: Path
    before: onnx.ModelProto
    rows: Mapping[str, Array]
    ranges: Path
    full: onnx.ModelProto
    ends: frozenset[str]
    settings: Quantize

    def written(self, *, only: Collection[str] = (), without: Collection[str] = ()) -> onnx.ModelProto:
        """The graph in INT8: the nodes of these names alone (none: all), and without those of these names."""
        draft = self.ranges.with_name("draft.onnx")
        method = METHODS[self.settings.calibration]
        _write(self.ready, draft, self.rows, self.settings, method, self.ranges, only, self.ends | set(without))
        return _finished(draft)


def calibrate(
    fp32_onnx: Path, rows: Mapping[str, Array], settings: Quantize, folder: Path, learned: Ranges | None = None
) -> Calibrated:
    """Find the ranges of all activations on the rows, and quantize all that can be.

    Args:
        fp32_onnx: a deployed graph. rows: name → array (n, ...), checked calibration rows.
        folder: an existing folder; what is written there must live as long as the result.
        learned: ranges of some tensors that a training has found, in the place of calibrated ones.

    Raises:
        CalibrationError: a tensor has no finite range. ModelError: a learned range is of no tensor.
    """
    ready, before = prepared(fp32_onnx, folder)
    ends = float_ends(before) | beyond_the_quantizer(before, settings.per_channel)
    draft, ranges, plain = folder / "int8.onnx", folder / "ranges.json", folder / "minmax.json"
    method = METHODS[settings.calibration]
    try:
        write_ranges(settings.calibration, ready, rows, ranges)
        _write(ready, draft, rows, settings, method, ranges, (), ends)
    except (AssertionError, ValueError):
        # ONNX Runtime's "scale issue", and NumPy's refusal of a histogram, do not say where.
        with suppress(AssertionError):
            _write(ready, draft, rows, settings, CalibrationMethod.MinMax, plain, (), ends)
        check_ranges(plain, before)
        raise
    check_ranges(ranges, before)
    if learned:
        put_into(ranges, learned)
        _write(ready, draft, rows, settings, method, ranges, (), ends)
    return Calibrated(ready, before, rows, ranges, _finished(draft), ends, settings)


def _write(
    ready: Path,
    draft: Path,
    rows: Mapping[str, Array],
    settings: Quantize,
    method: CalibrationMethod,
    ranges: Path,
    only: Collection[str],
    without: Collection[str],
) -> None:
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
        nodes_to_quantize=sorted(only),
        nodes_to_exclude=sorted(without),
        # MatMul with two activations (attention) stays in float, and is not counted as a quantized layer.
        extra_options={"MatMulConstBOnly": True},
        calibration_cache_path=ranges,  # written if it is not there, read if it is
    )


def _finished(draft: Path) -> onnx.ModelProto:
    graph = onnx.load(draft)
    keep_float(graph)
    free_output(graph)  # which also drops the constants that nothing reads any more
    return graph
