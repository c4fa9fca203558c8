"""INT8 quantization with ONNX Runtime, on the whole deployed graph: static in QDQ form, or dynamic.

The work is in `quantize_static` (with `activation_ranges`), `mixed_precision` and `quantize_dynamic`.

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
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from trimtab.compress.calibration import calibration_rows, notes_on_rows
from trimtab.compress.learned_ranges import Ranges
from trimtab.compress.mixed_precision import keep_within
from trimtab.compress.nan_activations import notes_on_nan
from trimtab.compress.qdq_graph import counted, silent
from trimtab.compress.quantize_dynamic import dynamic
from trimtab.compress.quantize_static import calibrate
from trimtab.data import Split
from trimtab.recipe.schema import Quantize

Array = np.ndarray


def quantize(
    fp32_onnx: Path,
    calibration: Mapping[str, Array],
    training: Mapping[str, Array],
    settings: Quantize,
    out: Path,
    judged_on: Split | None = None,
    learned: Ranges | None = None,
) -> dict[str, Any]:
    """Quantize a deployed graph (pre-processing → model → softmax) and write it to `out`.

    Args:
        fp32_onnx: the graph; its inputs are raw rows, its one output the probabilities.
        calibration: name → array (n, ...), raw rows for the ranges of activations; not read in dynamic mode.
        training: the same of all training rows, to check that the ranges agree; not read in dynamic mode.
        settings: the recipe's compress.quantize.
        judged_on: labelled rows that `max_drop` is held on; needed with that, and not read without.
        learned: ranges of activations that a quantization-aware training left; static mode only.

    Returns:
        Facts: {"precision": "int8" or "int8-dynamic", "mode", "calibration" (None: dynamic), "activations",
        "weights", "quantized_nodes", "weights_quantized": share of the weights of convolutions and linear layers,
        "notes"}; static also {"calibration_rows", "calibration_rows_requested", "float_nodes", "mixed_precision":
        None, or what `MixedPrecision.to_json` gives,
        "learned_ranges": number}.

    Raises:
        CalibrationError: the rows are too few, not finite or of another range, or a tensor has no finite range.
        UnsupportedError: the graph has no layer that can be quantized, or none within `max_drop`.
        ModelError: a learned range is of a tensor that the graph does not have.
    """
    with tempfile.TemporaryDirectory(prefix="trimtab-quantize-") as folder, silent():
        if settings.mode == "dynamic":
            return {**dynamic(fp32_onnx, settings, out, Path(folder)), "weights": _form(settings)}
        rows = calibration_rows(calibration, training, settings)
        return _static(fp32_onnx, rows, settings, out, Path(folder), judged_on, learned or {})


def _static(
    fp32_onnx: Path,
    rows: Mapping[str, Array],
    settings: Quantize,
    out: Path,
    folder: Path,
    judged_on: Split | None,
    learned: Ranges,
) -> dict[str, Any]:
    used = len(next(iter(rows.values())))
    calibrated = calibrate(fp32_onnx, rows, settings, folder, learned)
    graph, mixed = calibrated.full, None
    if settings.max_drop is not None:
        if judged_on is None:
            raise ValueError("max_drop wants labelled rows to be judged on")
        counted(graph, calibrated.before, fp32_onnx)  # refuses a graph in which nothing can be quantized
        graph, mixed = keep_within(calibrated, judged_on, settings.max_drop)
    quantized, share = counted(graph, calibrated.before, fp32_onnx)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, out)
    return {
        "precision": "int8",
        "mode": "static",
        "calibration": settings.calibration,
        "calibration_rows": used,
        "calibration_rows_requested": settings.calibration_rows,
        "learned_ranges": len(learned),
        "activations": "uint8",
        "weights": _form(settings),
        "quantized_nodes": quantized,
        "weights_quantized": share,
        "float_nodes": sorted(node.name for node in graph.graph.node if node.name in calibrated.ends),
        "mixed_precision": mixed.to_json() if mixed else None,
        "notes": [*notes_on_rows(used, settings), *notes_on_nan(calibrated.ready, rows, folder)],
    }


def _form(settings: Quantize) -> str:
    return "int8 reduced to 7 bits, " + ("per channel" if settings.per_channel else "per tensor")
