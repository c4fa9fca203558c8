"""Quantization-aware training: the weights are trained on while they are rounded as the INT8 file will round them.

Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
arXiv:1712.05877. The file is still written by ONNX Runtime's quantizer (`quantize`). It is asked first where it would
round (`int8_sites`); the module is trained with that rounding in it (`simulate`); what comes out are float weights and
the ranges of activations, from which it writes the file. So the file has the form it has without training, and only
numbers in it differ: after no training at all it is the same file.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from trimtab.compress.calibration import calibration_rows
from trimtab.compress.distil import distil, training_of
from trimtab.compress.int8_sites import activation_sites, float_values, weight_sites
from trimtab.compress.qdq_graph import counted, silent
from trimtab.compress.quantize_static import calibrate
from trimtab.compress.simulate import Coverage, Simulated, functional, simulate
from trimtab.convert.graph import deployed
from trimtab.convert.onnx_format import export_onnx
from trimtab.convert.tracing import exported, first_line, quiet
from trimtab.data import Split
from trimtab.errors import UnsupportedError
from trimtab.free_axes import FIXED, Axes
from trimtab.optimize.augmenting import Augment
from trimtab.optimize.batches import rows_an_epoch
from trimtab.optimize.predicting import Forward
from trimtab.optimize.training import Fit, Progress, fit
from trimtab.preprocess import prepare
from trimtab.recipe.schema import Distil, Preprocess, Qat, Quantize

Array = np.ndarray
EXAMPLE_ROWS = 4
MATCHED_ROWS = 16  # on which tensors of the two graphs are compared


@dataclass(frozen=True)
class Trained:
    """What a quantization-aware training left besides the weights.

    Attributes:
        fitted: its epochs, judged in the simulation.
        ranges: tensor of the float ONNX graph → range (low, high) of its rounding.
        coverage: what of the INT8 graph was in the simulation.
    """

    fitted: Fit
    ranges: Mapping[str, tuple[float, float]]
    coverage: Coverage


def train_quantized(
    model: nn.Module,
    train: Split,
    validation: Split,
    settings: Qat,
    quantize: Quantize,
    preprocess: Preprocess,
    forward: Forward,
    seed: int,
    teacher: nn.Module | None = None,
    softening: Mapping[str, float] | None = None,
    augment: Augment | None = None,
    progress: Progress | None = None,
    axes: Axes = FIXED,
) -> Trained:
    """Train the module in place for INT8, on labels, or on the answers of a teacher as `distil` does.

    Args:
        quantize: how the file will be written: the simulation is read off such a file.
        teacher, softening: with a teacher, `temperature` and `alpha` of the distillation.
        forward, seed, augment, progress: as for `distil`.
        axes: of inputs that are free in the file besides the batch; trained is at the size of the data.

    Raises:
        UnsupportedError: the graph has no layer that can be quantized, or the module none that it is found in.
        CalibrationError, ConversionError: of `quantize` and of the exporter.
        ModelError: the loss is not finite.
    """
    asked = _distil(settings, softening)
    steps = settings.epochs * math.ceil(rows_an_epoch(train, training_of(asked, seed)) / settings.batch_size)
    student, coverage = simulation(model, train, quantize, preprocess, round(settings.observe * steps), axes)
    if teacher is None:
        fitted = fit(
            student, train, validation, training_of(asked, seed), forward=forward, augment=augment, progress=progress
        )
    else:
        fitted = distil(student, teacher, train, validation, asked, forward, seed, augment, progress)
    model.eval()
    return Trained(fitted, student.learned(), coverage)


def simulation(
    model: nn.Module,
    train: Split,
    quantize: Quantize,
    preprocess: Preprocess,
    observed_steps: int,
    axes: Axes = FIXED,
) -> tuple[Simulated, Coverage]:
    """The module as its INT8 file will answer, trainable, with the module's own parameters.

    Raises: as `train_quantized`.
    """
    model.eval()
    rows = _spread(train, MATCHED_ROWS)
    with tempfile.TemporaryDirectory(prefix="trimtab-qat-") as folder, silent():
        graph = Path(folder) / "model.onnx"
        export_onnx(deployed(model, preprocess), _spread(train, EXAMPLE_ROWS), graph, axes=axes)
        calibrated = calibrate(graph, calibration_rows(train.inputs, train.inputs, quantize), quantize, Path(folder))
        counted(calibrated.full, calibrated.before, graph)  # refuses a graph in which nothing can be quantized
        sites, weights = activation_sites(calibrated), weight_sites(calibrated)
        values = float_values(calibrated, [site.tensor for site in sites], rows)
    given = prepare({name: torch.from_numpy(value) for name, value in rows.items()}, preprocess)
    try:
        with quiet():
            captured = functional(exported(model, {name: value.numpy() for name, value in given.items()}))
    except Exception as error:
        raise UnsupportedError(
            f"torch.export cannot capture it: {type(error).__name__}: {first_line(error)[:300]}",
            where=type(model).__name__,
            fix="set compress.qat to null for this model",
        ) from None
    student, coverage = simulate(
        captured, given, [(site, values[site.tensor]) for site in sites], weights, observed_steps
    )
    if not coverage.layers:
        raise UnsupportedError(
            f"none of the layers that INT8 would round is found in the module: {', '.join(coverage.only_afterwards)}",
            where=type(model).__name__,
            fix="set compress.qat to null for this model",
        )
    return student, coverage


def _spread(split: Split, count: int) -> dict[str, Array]:
    """Rows evenly spread over a split: the first ones may be all alike."""
    chosen = np.linspace(0, len(split) - 1, min(len(split), count)).round().astype(np.int64)
    return {name: np.ascontiguousarray(values[chosen]) for name, values in split.inputs.items()}


def _distil(settings: Qat, softening: Mapping[str, float] | None) -> Distil:
    """The settings as those of a distillation."""
    shared = settings.model_dump(include=set(Qat.model_fields) & set(Distil.model_fields))
    # A captured graph has views in it that are right for the layout it was captured with, and no other.
    return Distil.model_validate({**shared, **(softening or {}), "channels_last": False})
