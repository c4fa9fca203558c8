"""INT8 quantization with NNCF, of a candidate's FP32 OpenVINO model.

Beside what ONNX Runtime's quantizer does (`quantize`), NNCF knows which layers OpenVINO's CPU plugin fuses and computes
in integers, takes the mean of each row's smallest and largest activation for the ends of a range, so that one outlier
does not widen it, and corrects the bias of each layer by what rounding shifted it (Nagel et al. 2019, section 4.2).

As there, pre-processing stays in float, since columns of a table differ by orders of magnitude before they are scaled:
its nodes are named to NNCF as ignored, which recognises only the commonest forms of it by itself. Softmax NNCF leaves
in float.

NNCF is imported by the call, which takes two seconds, and never while serving.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

# First of the two: it keeps `import openvino` from sending its usage event.
from trimtab.runtime.openvino_cpu import Predictor, read_model  # isort: skip
import openvino

from trimtab.compress.calibration import BATCH, NAN_FIX, answered_rows, calibration_rows, notes_on_rows
from trimtab.compress.openvino_layers import Layer, empty_ranges, layers_of, preprocessing
from trimtab.convert.openvino_format import save
from trimtab.convert.tracing import first_line, quiet
from trimtab.errors import CalibrationError, ConversionError, UnsupportedError
from trimtab.recipe.schema import QuantizeOpenvino

Array = np.ndarray
SECTION = "compress.quantize_openvino"
PRECISION = "int8-nncf"
SHOWN = 12  # names in a message
_IMPORTING = threading.Lock()


def quantize_openvino(
    build: Path,
    calibration: Mapping[str, Array],
    training: Mapping[str, Array],
    settings: QuantizeOpenvino,
    out: Path,
) -> dict[str, Any]:
    """Quantize a deployed OpenVINO model (pre-processing → model → softmax) and write it to `out`.

    Args:
        build: folder of the FP32 build for openvino-cpu.
        calibration: name → array (n, ...), raw rows for the ranges of activations.
        training: the same of all training rows, to check that the ranges agree.
        settings: the recipe's compress.quantize_openvino.
        out: path of the .xml file; the .bin file is written beside it.

    Returns:
        Facts: {"precision": "int8-nncf", "preset", "fast_bias_correction", "calibration_rows",
        "calibration_rows_requested", "quantized_nodes": number of convolutions and linear layers in INT8, "layers":
        their names, "float_layers": names of the others, "weights_quantized": share of all layers' weights that is in
        INT8, "notes"}.

    Raises:
        CalibrationError: the rows are too few, not finite or of another range, or a tensor has no finite range.
        UnsupportedError: `ignored` names what is not a layer, or no layer could be quantized.
        ConversionError: NNCF failed.
    """
    rows = calibration_rows(calibration, training, settings)
    model = read_model(build)
    _check_ignored(settings.ignored, layers_of(model))
    good = _answered(build, rows)
    # Where no row is good all are used: the range that NNCF then leaves empty says where it begins.
    rows, notes = answered_rows(rows, good, settings) if good.any() else (rows, [])
    used = len(next(iter(rows.values())))
    quantized = _quantized(model, rows, used, settings)
    _check_ranges(quantized)
    if not good.any():
        raise CalibrationError(f"the model answers NaN for all {used} rows", where="calibration", fix=NAN_FIX)
    layers = layers_of(quantized)
    done = [layer for layer in layers if layer.quantized]
    total = sum(layer.weights for layer in layers)
    if not done:
        raise UnsupportedError(
            f"0 of {total} weights quantized: NNCF left each of {len(layers)} layers in float",
            where="openvino-cpu",
            fix=f"set {SECTION} to null" + (", or name fewer layers in its `ignored`" if settings.ignored else ""),
        )
    save(quantized, out)
    return {
        "precision": PRECISION,
        "preset": settings.preset,
        "fast_bias_correction": settings.fast_bias_correction,
        "calibration_rows": used,
        "calibration_rows_requested": settings.calibration_rows,
        "quantized_nodes": len(done),
        "layers": [layer.name for layer in done],
        "float_layers": [layer.name for layer in layers if not layer.quantized],
        "weights_quantized": sum(layer.weights for layer in done) / total,
        "notes": [*notes, *notes_on_rows(used, settings)],
    }


def _quantized(
    model: openvino.Model, rows: Mapping[str, Array], used: int, settings: QuantizeOpenvino
) -> openvino.Model:
    nncf = _nncf()
    # One row at a time: of a batch, NNCF would take the ends over all its rows, and then their mean over batches.
    single = [{name: values[row : row + 1] for name, values in rows.items()} for row in range(used)]
    kept_float = [*preprocessing(model), *settings.ignored]
    try:
        with _silent():
            return nncf.quantize(
                model,
                nncf.Dataset(single),
                preset=nncf.QuantizationPreset(settings.preset),
                subset_size=used,
                fast_bias_correction=settings.fast_bias_correction,
                ignored_scope=nncf.IgnoredScope(names=kept_float, validate=False),
            )
    except Exception as error:  # NNCF's own errors, and whatever its passes and OpenVINO raise
        raise ConversionError(
            f"NNCF {nncf.__version__} raised {type(error).__name__}: {first_line(error)[:500]}",
            where="openvino-cpu",
            fix=f"name the layer in {SECTION}.ignored, or set {SECTION} to null and use compress.quantize",
        ) from error


def _nncf() -> ModuleType:
    """The module, imported so that it sends no usage events and does not change this process's loggers.

    NNCF 3.4 reports each call through openvino_telemetry if that can be imported when it is itself, and makes its own
    logger class the one of all loggers to come.
    """
    with _IMPORTING:
        if "nncf" not in sys.modules:
            loggers, telemetry = logging.getLoggerClass(), sys.modules.get("openvino_telemetry")
            sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
            try:
                import nncf
            finally:
                logging.setLoggerClass(loggers)
                if telemetry is not None:  # the user's code imported openvino before us
                    sys.modules["openvino_telemetry"] = telemetry
    import nncf

    return nncf


@contextmanager
def _silent() -> Iterator[None]:
    """NNCF logs to a logger of its own and draws progress bars on rich's common console; off for the block."""
    from rich import get_console

    logger, console = logging.getLogger("nncf"), get_console()
    were = logger.disabled, console.quiet
    logger.disabled = console.quiet = True
    try:
        with quiet():
            yield
    finally:
        logger.disabled, console.quiet = were


def _check_ignored(names: list[str], layers: list[Layer]) -> None:
    known = [layer.name for layer in layers]
    if unknown := [name for name in names if name not in known]:
        raise UnsupportedError(
            f"no layer is called {', '.join(map(repr, unknown))}; there are {len(known)}: "
            + ", ".join(map(repr, known[:SHOWN]))
            + (", …" if len(known) > SHOWN else ""),
            where=f"{SECTION}.ignored",
            fix="give names of layers as the OpenVINO model of this candidate has them",
        )


def _answered(build: Path, rows: Mapping[str, Array]) -> Array:
    """For which rows the FP32 model answers with numbers, bool (n,): by one NaN, NNCF's mean over rows would be NaN."""
    predictor = Predictor.load(build, threads=1)
    output = predictor.spec["outputs"][0]["name"]
    answers = [
        predictor.predict({name: values[start : start + BATCH] for name, values in rows.items()})[output]
        for start in range(0, len(next(iter(rows.values()))), BATCH)
    ]
    return np.isfinite(np.concatenate(answers)).all(axis=1)


def _check_ranges(model: openvino.Model) -> None:
    """Refuse activations that were NaN or infinite: NNCF writes the range 0 … 0, and every answer becomes the same.

    A tensor that is always 0 is no such case, it gets a small range.
    """
    for name, low, high in empty_ranges(model):
        raise CalibrationError(
            f"NaN or infinite for calibration rows: it has no finite range, NNCF gives {low:g} … {high:g}",
            where=f"tensor {name}",
            fix=NAN_FIX,
        )
