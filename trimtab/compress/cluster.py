"""Weight sharing: the weights of a layer become at most 2**bits values, stored as a codebook and packed indices.

Han, Mao, Dally: Deep Compression (ICLR 2016, arXiv:1510.00149), section 3: k-means per layer, centroids begun evenly
spaced over the range of the weights ("linear initialization", the best of the three compared there). The centroids are
not trained afterwards, and there is no Huffman coding.

Indices are packed without a gap, for any number of bits: a layer's indices are cut into fields of gcd(bits, 8) bits,
which fill bytes exactly; field k of all indices is plane k. Planes are unpacked with Div and Mod of 32-bit integers.
ONNX has BitShift, and OpenVINO 2026.4 reads a right shift of 8-bit integers wrongly: it divides without rounding down.
Runtimes do all of this once, when they open the file; an inference is that of the FP32 graph.
"""

from __future__ import annotations

import math
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

LEAST_PER_CENTROID = 4
ROUNDS = 300  # of Lloyd's algorithm; it has settled after some dozens
CODEBOOK, PLANES, SHAPE, COUNT = (f":{word}" for word in ("codebook", "planes", "shape", "count"))
DIVISORS, BASE, PLACES, FIRST, FLAT = (f"cluster:{word}" for word in ("divisors", "base", "places", "first", "flat"))


def cluster(graph: Path, bits: int, out: Path) -> dict[str, Any]:
    """Share the weights of convolutions, linear layers and matrix products.

    A layer with fewer than 4 · 2**bits weights, or one that would take more room so, stays as it is.

    Args:
        graph: an FP32 ONNX file.
        bits: of an index, 2 to 8.
        out: path of the file to write.

    Returns:
        Facts: {"precision": "clustered", "bits", "layers": weights that were clustered, "weights_clustered": share of
        all weights' values that they hold, "codebooks": name → number of centroids, "largest_change": of a weight,
        absolute, "bytes_before", "bytes_after", "notes": []}.

    Raises:
        UnsupportedError: no layer has weights enough, a weight is NaN or infinite, or the file would not be smaller.
    """
    model = onnx.load(str(graph))
    weights = float_weights(model)
    stored: dict[str, Stored] = {}
    codebooks: dict[str, int] = {}
    largest_change = 0.0
    for name, values in weights.items():
        refuse_not_finite(name, values)
        if values.size < LEAST_PER_CENTROID * 2**bits:
            continue
        codebook, codes = kmeans(values, 2**bits)
        one = _stored(name, codebook, codes, bits)
        if one.size >= values.nbytes:
            continue
        stored[name], codebooks[name] = one, len(codebook)
        largest_change = max(largest_change, float(np.abs(codebook[codes] - values).max()))
    if not stored:
        raise _too_small(graph, weights, bits)
    replace(model, stored, _shared(bits))
    save(model, out)
    before, after = refuse_not_smaller(graph, out, "cluster")
    return {
        "precision": "clustered",
        "bits": bits,
        "layers": len(stored),
        "weights_clustered": sum(weights[name].size for name in stored)
        / sum(values.size for values in weights.values()),
        "codebooks": codebooks,
        "largest_change": largest_change,
        "bytes_before": before,
        "bytes_after": after,
        "notes": [],
    }


def decode(graph: Path) -> dict[str, Array]:
    """Name → values, float32, of the clustered weights of a file, read without a runtime; {} if it has none."""
    found = {item.name: numpy_helper.to_array(item) for item in onnx.load(str(graph)).graph.initializer}
    weights = {}
    for name in [one.removesuffix(CODEBOOK) for one in found if one.endswith(CODEBOOK)]:
        codebook, planes, shape = (found[name + part] for part in (CODEBOOK, PLANES, SHAPE))
        width = 8 // found[DIVISORS].size if DIVISORS in found else 8
        weights[name] = codebook[unpack(planes, width, int(np.prod(shape)))].reshape(shape)
    return weights


def kmeans(values: Array, k: int) -> tuple[Array, Array]:
    """At most k centroids of numbers, by Lloyd's algorithm begun evenly spaced from the smallest to the largest.

    In one dimension a cluster is a stretch of the sorted values: a round is k look-ups in their running sums. Nothing
    is random, nor left to a library of linear algebra: the result is the same on every host.

    Args:
        values: float32, any shape.

    Returns:
        Centroids, float32 (at most k,), rising; the index of each value's nearest, uint8, in the shape of `values`.
        Values of no more than k kinds are kept exactly.
    """
    kinds = np.unique(values)
    codebook = kinds if len(kinds) <= k else _lloyd(np.sort(values, axis=None).astype(np.float64), k)
    middles = (codebook[1:].astype(np.float64) + codebook[:-1]) / 2
    return codebook, np.searchsorted(middles, values.astype(np.float64)).astype(np.uint8)


def _lloyd(ordered: Array, k: int) -> Array:
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centres = np.linspace(ordered[0], ordered[-1], k)
    counts = np.zeros(k, np.int64)
    for _ in range(ROUNDS):
        cuts = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2, side="right")
        bounds = np.concatenate([[0], cuts, [len(ordered)]])
        counts = np.diff(bounds)
        means = np.where(counts > 0, np.diff(sums[bounds]) / np.maximum(counts, 1), centres)
        if np.array_equal(means, centres):
            break
        centres = means
    return np.unique(centres[counts > 0].astype(np.float32))


def pack(codes: Array, bits: int) -> Array:
    """Indices, uint8 of any shape, as planes: uint8 (bits / width, bytes, 1), where width = gcd(bits, 8)."""
    width = math.gcd(bits, 8)
    fields = 8 // width
    flat = np.pad(codes.reshape(-1), (0, -codes.size % fields))
    planes = [flat.reshape(-1, fields) >> place & 2**width - 1 for place in range(0, bits, width)]
    return (np.stack(planes) << np.arange(0, 8, width)).sum(axis=2, keepdims=True).astype(np.uint8)


def unpack(planes: Array, width: int, count: int) -> Array:
    """The inverse of `pack`: the first `count` indices, int64 (count,)."""
    fields = planes >> np.arange(0, 8, width, dtype=np.uint8) & np.uint8(2**width - 1)
    digits = fields.reshape(len(planes), -1)[:, :count].astype(np.int64)
    return (digits << width * np.arange(len(planes))[:, None]).sum(axis=0)


def _shared(bits: int) -> list[onnx.TensorProto]:
    """What the unpacking of every layer reads."""
    width = math.gcd(bits, 8)
    constants: dict[str, Array] = {
        DIVISORS: 2 ** np.arange(0, 8, width, dtype=np.int32),
        BASE: np.array(2**width, np.int32),
        PLACES: (2 ** np.arange(0, bits, width, dtype=np.int32)).reshape(-1, 1, 1),
        FIRST: np.array([0], np.int64),
        FLAT: np.array([-1], np.int64),
    }
    return [numpy_helper.from_array(values, name) for name, values in constants.items()]


def _stored(name: str, codebook: Array, codes: Array, bits: int) -> Stored:
    planes = pack(codes, bits)
    width = math.gcd(bits, 8)
    padded = planes.shape[1] * 8 // width > codes.size
    constants: dict[str, Array] = {
        CODEBOOK: codebook,
        PLANES: planes,
        SHAPE: np.array(codes.shape, np.int64),
        **({COUNT: np.array([codes.size], np.int64)} if padded else {}),
    }
    steps: list[tuple[str, list[str], dict[str, Any]]] = [("Cast", [], {"to": TensorProto.INT32})]
    if width < 8:
        steps += [("Div", [DIVISORS], {}), ("Mod", [BASE], {})]
    if bits > width:
        steps += [("Mul", [PLACES], {}), ("ReduceSum", [FIRST], {"keepdims": 0})]
    if padded:
        steps += [("Reshape", [FLAT], {}), ("Slice", [FIRST, name + COUNT], {})]
    steps += [("Reshape", [name + SHAPE], {})]
    nodes, last = [], name + PLANES
    for number, (operator, others, attributes) in enumerate(steps):
        nodes.append(helper.make_node(operator, [last, *others], [f"{name}:{number}"], **attributes))
        last = nodes[-1].output[0]
    nodes.append(helper.make_node("Gather", [name + CODEBOOK, last], [name]))
    return Stored(nodes, [numpy_helper.from_array(values, name + part) for part, values in constants.items()])


def _too_small(graph: Path, weights: dict[str, Array], bits: int) -> UnsupportedError:
    largest = max(weights, key=lambda name: weights[name].size, default=None)
    found = f"the largest, {largest}, has {weights[largest].size}" if largest else "there is none"
    return UnsupportedError(
        f"no layer has weights enough to share {2**bits} values among: {found}",
        where=graph.name,
        fix="lower compress.cluster.bits, or set compress.cluster to null",
    )
