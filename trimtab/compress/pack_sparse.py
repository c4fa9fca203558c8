"""Weights with many zeros stored without them: a bit a weight says whether it is zero, the others follow in FP32.

A bitmap costs 1/32 of the FP32 weights, whatever the pattern of the zeros, and a count for every 64 of them 1/64.
Worked example, with a count for every 4: 0 0 7 0 5 0 2 0 has bits 0010 1010, values 7 5 2 and counts 0 1. Bits are
added up within their 4 and to the count before, 0 0 1 1 and 2 2 3 3; times the bits, 0 0 1 0 2 0 3 0 says which value
goes where, 0 being a zero put before them.

The graph decodes this by standard operators, which ONNX Runtime and OpenVINO compute once, when they open the file. An
inference multiplies by all the zeros as before: the file is smaller, nothing is faster. Bits are taken out by Div and
Mod of 32-bit integers, for the reason given in `cluster`. They are added up by a matrix product, because OpenVINO
2026.4 leaves CumSum of constants to every inference, and takes seconds to find places by NonZero.
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

BLOCK = 64  # bits that one count is kept for
BITMAP, BEFORE, VALUES, SHAPE, COUNT = (f":{word}" for word in ("bitmap", "before", "values", "shape", "count"))
DIVISORS, BASE, BLOCKS, UPTO, FIRST, FLAT = (
    f"sparse:{word}" for word in ("divisors", "base", "blocks", "upto", "first", "flat")
)


def pack_sparse(graph: Path, out: Path) -> dict[str, Any]:
    """Store the weights of convolutions, linear layers and matrix products as bitmaps and values other than zero.

    A weight that would take more room so stays as it is. No weight changes.

    Args:
        graph: an FP32 ONNX file.
        out: path of the file to write.

    Returns:
        Facts: {"precision": "sparse", "layers": weights that were packed, "sparsity": share of zeros among all
        weights' values, "bytes_before", "bytes_after", "notes"}.

    Raises:
        UnsupportedError: a weight is NaN or infinite, none has zeros enough, or the file would not be smaller.
    """
    model = onnx.load(str(graph))
    weights = float_weights(model)
    stored: dict[str, Stored] = {}
    for name, values in weights.items():
        refuse_not_finite(name, values)
        one = _stored(name, values)
        if one.size < values.nbytes:
            stored[name] = one
    zeros = sum(int((values == 0).sum()) for values in weights.values())
    sparsity = zeros / max(1, sum(values.size for values in weights.values()))
    if not stored:
        raise UnsupportedError(
            f"no layer has zeros enough to be stored without them: {sparsity:.1%} of all weights are zero",
            where=graph.name,
            fix="raise compress.sparsify.sparsities, or set compress.sparsify to null",
        )
    replace(model, stored, _shared())
    save(model, out)
    before, after = refuse_not_smaller(graph, out, "sparsify")
    return {
        "precision": "sparse",
        "layers": len(stored),
        "sparsity": sparsity,
        "bytes_before": before,
        "bytes_after": after,
        "notes": ["zeros are left out of the file alone: the runtime computes with them, no faster than without"],
    }


def decode(graph: Path) -> dict[str, Array]:
    """Name → values, float32, of the packed weights of a file, read without a runtime; {} if it has none."""
    found = {item.name: numpy_helper.to_array(item) for item in onnx.load(str(graph)).graph.initializer}
    weights = {}
    for name in [one.removesuffix(BITMAP) for one in found if one.endswith(BITMAP)]:
        shape = found[name + SHAPE]
        bits = np.unpackbits(found[name + BITMAP].reshape(-1), bitorder="little")[: int(np.prod(shape))]
        values = np.zeros(bits.size, np.float32)
        values[bits == 1] = found[name + VALUES][1:]
        weights[name] = values.reshape(shape)
    return weights


def _shared() -> list[onnx.TensorProto]:
    """What the unpacking of every layer reads."""
    constants: dict[str, Array] = {
        DIVISORS: 2 ** np.arange(8, dtype=np.int32),
        BASE: np.array(2, np.int32),
        BLOCKS: np.array([-1, BLOCK], np.int64),
        UPTO: np.triu(np.ones((BLOCK, BLOCK), np.uint8)),
        FIRST: np.array([0], np.int64),
        FLAT: np.array([-1], np.int64),
    }
    return [numpy_helper.from_array(values, name) for name, values in constants.items()]


def _stored(name: str, weight: Array) -> Stored:
    flat = weight.reshape(-1)
    bits = np.pad(flat != 0, (0, -flat.size % BLOCK)).reshape(-1, BLOCK)
    counts = bits.sum(axis=1, dtype=np.int32)
    padded = bits.size > flat.size
    constants: dict[str, Array] = {
        BITMAP: np.packbits(bits, bitorder="little").reshape(-1, 1),
        BEFORE: (np.cumsum(counts, dtype=np.int32) - counts).reshape(-1, 1),
        VALUES: np.concatenate([np.zeros(1, np.float32), flat[flat != 0]]),
        SHAPE: np.array(weight.shape, np.int64),
        **({COUNT: np.array([flat.size], np.int64)} if padded else {}),
    }
    own = {part: name + part for part in (BITMAP, BEFORE, VALUES, SHAPE, COUNT)}
    steps: list[tuple[str, list[str], str]] = [
        ("Cast:int32", [own[BITMAP]], "bytes"),
        ("Div", ["bytes", DIVISORS], "shifted"),
        ("Mod", ["shifted", BASE], "bits"),
        ("Reshape", ["bits", BLOCKS], "blocks"),
        ("Cast:float", ["blocks"], "ones"),
        ("Cast:float", [UPTO], "triangle"),
        ("MatMul", ["ones", "triangle"], "counted"),
        ("Cast:int32", ["counted"], "within"),
        ("Add", ["within", own[BEFORE]], "number"),
        ("Mul", ["number", "blocks"], "index"),
        ("Gather", [own[VALUES], "index"], "filled"),
        *([("Reshape", ["filled", FLAT], "flat"), ("Slice", ["flat", FIRST, own[COUNT]], "filled:cut")] * padded),
        ("Reshape", ["filled:cut" if padded else "filled", own[SHAPE]], ""),
    ]
    made = {out for _, _, out in steps}
    nodes = [
        _node(operator, [f"{name}:{one}" if one in made else one for one in read], f"{name}:{out}" if out else name)
        for operator, read, out in steps
    ]
    return Stored(nodes, [numpy_helper.from_array(values, own[part]) for part, values in constants.items()])


def _node(operator: str, read: list[str], out: str) -> onnx.NodeProto:
    """A node; "Cast:float" and "Cast:int32" say to what is cast."""
    kind, _, to = operator.partition(":")
    types = {"float": TensorProto.FLOAT, "int32": TensorProto.INT32}
    attributes: dict[str, Any] = {"to": types[to]} if to else {}
    return helper.make_node(kind, read, [out], **attributes)
