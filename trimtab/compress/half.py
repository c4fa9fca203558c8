"""Weights stored in 16 bits (IEEE 754 half precision); each is cast back to FP32 when the file is opened.

Half precision keeps 11 significant bits (a relative error of at most 2⁻¹¹ between 6·10⁻⁵ and 65504). The arithmetic
stays in FP32: CPUs multiply half precision no faster, most of them slower. The file is half as large; an inference
takes as long as before, and the memory of an open session is that of FP32 weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trimtab.compress.graph_weights import (
    Array,
    Stored,
    float_weights,
    refuse_not_finite,
    refuse_not_smaller,
    replace,
    save,
)
from trimtab.errors import UnsupportedError

LARGEST = float(np.finfo(np.float16).max)


def half(graph: Path, out: Path) -> dict[str, Any]:
    """Store the FP32 weights of convolutions, linear layers and matrix products as float16.

    Args:
        graph: an FP32 ONNX file. Biases and pre-processing keep their precision.
        out: path of the file to write.

    Returns:
        Facts: {"precision": "fp16", "layers": weights that were stored so, "weights_halved": share of all weights'
        values that they hold, "largest_change": of a weight, absolute, "underflowed": weights other than 0 that
        became 0, "bytes_before", "bytes_after", "notes"}.

    Raises:
        UnsupportedError: a weight is beyond ±65504, NaN or infinite; or the file would not become smaller.
    """
    model = onnx.load(str(graph))
    weights = float_weights(model)
    stored: dict[str, Stored] = {}
    largest_change, underflowed = 0.0, 0
    for name, values in weights.items():
        _refuse_beyond(name, values)
        halved = values.astype(np.float16)
        one = _stored(name, halved)
        if one.size >= values.nbytes:
            continue  # the cast takes more room than it saves
        stored[name] = one
        largest_change = max(largest_change, float(np.abs(halved.astype(np.float32) - values).max()))
        underflowed += int(((halved == 0) & (values != 0)).sum())
    replace(model, stored)
    save(model, out)
    before, after = refuse_not_smaller(graph, out, "half")
    return {
        "precision": "fp16",
        "layers": len(stored),
        "weights_halved": sum(weights[name].size for name in stored) / sum(values.size for values in weights.values()),
        "largest_change": largest_change,
        "underflowed": underflowed,
        "bytes_before": before,
        "bytes_after": after,
        "notes": [f"{underflowed} weights are too small for float16 and became 0"] if underflowed else [],
    }


def _stored(name: str, halved: Array) -> Stored:
    initializer = numpy_helper.from_array(halved, f"{name}:half")
    return Stored([helper.make_node("Cast", [initializer.name], [name], to=TensorProto.FLOAT)], [initializer])


def _refuse_beyond(name: str, values: Array) -> None:
    refuse_not_finite(name, values)
    worst = float(values.flat[np.abs(values).argmax()]) if values.size else 0.0
    if abs(worst) > LARGEST:
        raise UnsupportedError(
            f"a weight is {worst:.6g}, float16 ends at ±{LARGEST:.0f}",
            where=f"initializer {name}",
            fix="set compress.half to null, or train with weight decay",
        )
