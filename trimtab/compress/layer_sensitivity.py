"""What the quantization of each layer alone does to the answers of a network.

Each layer in turn is the only one in INT8, all others are in float, and the answers are compared with those of the
float network: the sensitivity analysis of Wu et al. 2020, "Integer Quantization for Deep Learning Inference",
arXiv:2004.09602, section "Partial Quantization". The measure is the signal-to-quantization-noise ratio of the logits
instead of the accuracy, for which a few hundred rows are too few to tell one layer from another.

The error of a layer's own output would cost one pass over the rows for all layers. It is not taken, because it does
not say what matters to the answer: an output of which one channel is a thousand times as large as the others, and is
never looked at again, has a fine ratio while all others are lost.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization.qdq_loss_debug import compute_signal_to_quantization_noice_ratio

from trimtab.compress.calibration import calibration_rows
from trimtab.compress.qdq_graph import quantized_layers, silent
from trimtab.compress.quantize_static import Calibrated, calibrate
from trimtab.recipe.schema import Quantize
from trimtab.runtime.onnxruntime_cpu import open_session

Array = np.ndarray
BATCH = 256
REMOVABLE = ("Relu", "Clip")  # ONNX Runtime's quantizer takes them out: the range of the layer before them clips
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Sensitivity:
    """What quantizing one node of the float graph costs.

    Attributes:
        node: its name. operator: e.g. "Conv". weighted: whether it is a layer with weights in INT8.
        follows: names of the activations after it that go into its INT8 form.
        sqnr_db: of the logits when it alone is in INT8, in decibels; the lower, the more it costs.
    """

    node: str
    operator: str
    weighted: bool
    follows: tuple[str, ...]
    sqnr_db: float

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        return {**asdict(self), "follows": list(self.follows)}


def layer_sensitivity(
    fp32_onnx: Path, calibration: Mapping[str, Array], training: Mapping[str, Array], settings: Quantize
) -> list[Sensitivity]:
    """Sensitivity of every node that static INT8 changes, the most sensitive first. Arguments as of `quantize`.

    Raises:
        CalibrationError: the rows are not fit for use.
    """
    rows = calibration_rows(calibration, training, settings)
    with tempfile.TemporaryDirectory(prefix="trimtab-sensitivity-") as folder, silent():
        return sensitivities(calibrate(fp32_onnx, rows, settings, Path(folder)))


def sensitivities(calibrated: Calibrated) -> list[Sensitivity]:
    """The same of a graph that is calibrated already, on the rows it was calibrated on."""
    logits = centred_logits(answers(calibrated.before, calibrated.rows))
    good = np.isfinite(logits).all(axis=1)
    weighted = quantized_layers(calibrated.full)
    found = []
    for node, follows in _groups(calibrated):
        alone = calibrated.written(only=[node.name, *follows])
        if not any(one.op_type == "QuantizeLinear" for one in alone.graph.node):
            continue  # it hands on integers if it gets them, and rounds nothing itself
        changed = centred_logits(answers(alone, calibrated.rows))
        ratio = compute_signal_to_quantization_noice_ratio(logits[good], changed[good])
        found.append(Sensitivity(node.name, node.op_type, node.name in weighted, follows, float(ratio)))
    return sorted(found, key=lambda one: one.sqnr_db)


def answers(graph: onnx.ModelProto, inputs: Mapping[str, Array]) -> Array:
    """The graph's first output (n, classes) for rows name → array (n, ...), on ONNX Runtime, in batches."""
    with tempfile.TemporaryDirectory(prefix="trimtab-answers-") as folder:
        path = Path(folder) / "graph.onnx"
        onnx.save(graph, path)
        session = open_session(path, threads=1)
    rows = len(next(iter(inputs.values())))
    parts = [
        session.run(None, {name: values[start : start + BATCH] for name, values in inputs.items()})[0]
        for start in range(0, rows, BATCH)
    ]
    return np.concatenate(parts)


def centred_logits(probabilities: Array) -> Array:
    """Logits less their mean over the classes, which softmax does not keep: (n, classes)."""
    logs = np.log(np.maximum(probabilities, TINY))
    return logs - logs.mean(axis=1, keepdims=True)


def _groups(calibrated: Calibrated) -> list[tuple[onnx.NodeProto, tuple[str, ...]]]:
    """Nodes that are in INT8 in the full form, each with the activations after it that were taken out for it."""
    full = calibrated.full.graph
    dequantized = {node.output[0] for node in full.node if node.op_type == "DequantizeLinear"}
    left = {node.name for node in full.node}
    integers = {node.name for node in full.node if set(node.input) & dequantized}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in calibrated.before.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    groups = []
    for node in calibrated.before.graph.node:
        if node.name in integers and node.name not in calibrated.ends:
            groups.append((node, tuple(_taken_out(node, readers, left))))
    return groups


def _taken_out(node: onnx.NodeProto, readers: Mapping[str, list[onnx.NodeProto]], left: set[str]) -> Iterator[str]:
    """Names of the activations right after a node that the quantizer has taken out, in order."""
    while len(following := readers.get(node.output[0], [])) == 1:
        node = following[0]
        if node.op_type not in REMOVABLE or node.name in left:
            return
        yield node.name
