"""Dynamic INT8: weights are quantized in the file, activations when they are computed.

Dynamic quantization needs no calibration rows: the range of an activation is that of the batch at hand, which costs a
pass over it at every layer, and makes a row's answer depend on the rows it is sent with. Only matrix products and
convolutions are quantized, everything between them is float. Weights keep 7 bits here too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from trimtab.compress.qdq_graph import counted, prepared
from trimtab.recipe.schema import Quantize
from trimtab.runtime.onnxruntime_cpu import open_session

DYNAMIC_NOTE = "ranges of activations are each batch's own: a row's answer depends on the rows it is sent with"


def dynamic(fp32_onnx: Path, settings: Quantize, out: Path, folder: Path) -> dict[str, Any]:
    """Quantize a deployed graph dynamically and write it to `out`; facts, but for "weights", as of `quantize`.

    Raises:
        UnsupportedError: the graph has no layer that can be quantized.
    """
    ready, before = prepared(fp32_onnx, folder)
    draft, notes = folder / "int8.onnx", [DYNAMIC_NOTE]
    _write(ready, draft, settings, ["MatMul", "Gemm", "Conv"])
    try:
        open_session(draft, threads=1)
    except Exception as error:  # no kernel for ConvInteger: it depends on the version of ONNX Runtime, not on the CPU
        notes.append(f"convolutions stay in float, ONNX Runtime cannot run them: {str(error).strip()[:200]}")
        _write(ready, draft, settings, ["MatMul", "Gemm"])
    graph = onnx.load(draft)
    quantized, share = counted(graph, before, fp32_onnx)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, out)
    return {
        "precision": "int8-dynamic",
        "mode": "dynamic",
        "calibration": None,
        "activations": "uint8, ranges of each batch",
        "quantized_nodes": quantized,
        "weights_quantized": share,
        "notes": notes,
    }


def _write(ready: Path, draft: Path, settings: Quantize, operators: list[str]) -> None:
    quantize_dynamic(
        str(ready),
        str(draft),
        op_types_to_quantize=operators,
        per_channel=settings.per_channel,
        reduce_range=True,
        weight_type=QuantType.QInt8,
    )
