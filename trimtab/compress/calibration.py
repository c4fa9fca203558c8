"""Calibration data: enough rows, finite, and of the range the model was trained on; otherwise refused with figures.

INT8 scales are read off these rows, so rows that were scaled once too often, or not at all, spoil every layer without
any error later on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import HistogramCalibrater, create_calibrator, save_tensors_data
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from trimtab.errors import CalibrationError
from trimtab.recipe.schema import Quantize, QuantizeOpenvino

Array = np.ndarray
BATCH = 32
NAN_FIX = "see why the model computes NaN or infinity for these rows"
# A sample of a few dozen rows of a skewed column may well be twice as narrow as all rows; a forgotten or doubled
# scaling (by 1/16, 1/255, or a standard deviation) is off by far more.
TOLERANCE = 4.0
ENOUGH_VALUES = 1_000_000
LOW, HIGH = 1, 99
# ONNX Runtime 1.32 has other defaults, which quantize_static does not let one change: entropy with 128 bins, as many as
# quantized ones, so that the whole range is all there is to choose (min-max by another name); percentiles of absolute
# values, whose histogram fails where one value is NaN.
HISTOGRAM = {"symmetric": False, "num_bins": 1024, "num_quantized_bins": 128, "percentile": 99.999}


class Rows(CalibrationDataReader):
    """Feeds named inputs to ONNX Runtime's calibration in batches of one size: its histograms stack their outputs."""

    def __init__(self, inputs: Mapping[str, Array]) -> None:
        self._batches = self._cut(inputs)

    @staticmethod
    def _cut(inputs: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
        rows = len(next(iter(inputs.values())))
        batch = next((size for size in range(min(BATCH, rows), 0, -1) if rows % size == 0), BATCH)
        for start in range(0, rows, batch):
            yield {name: values[start : start + batch] for name, values in inputs.items()}

    def get_next(self) -> dict[str, Array] | None:
        """The next batch, or None at the end."""
        return next(self._batches, None)


def histogram_ranges(graph: Path, rows: Mapping[str, Array], method: CalibrationMethod, work: Path, out: Path) -> None:
    """Ranges of activations from histograms, as the JSON that `quantize_static` takes for its calibration cache.

    Args:
        graph: an FP32 ONNX file. rows: name → array (n, ...).
        method: Entropy (smallest Kullback-Leibler divergence: Migacz 2017) or Percentile.
        work: path of a file that is written for the purpose.

    Raises:
        ValueError: a tensor has no finite range.
    """
    save_tensors_data(collected(graph, rows, method, work).compute_data(), out)


def collected(graph: Path, rows: Mapping[str, Array], method: CalibrationMethod, work: Path) -> HistogramCalibrater:
    """ONNX Runtime's calibrator with the histograms of all activations. Arguments and errors as `histogram_ranges`."""
    operators = sorted({*QDQRegistry, *QLinearOpsRegistry})  # as in quantize_static
    calibrator = create_calibrator(
        graph, operators, augmented_model_path=str(work), calibrate_method=method, extra_options=HISTOGRAM
    )
    calibrator.collect_data(Rows(rows))
    return calibrator


def calibration_rows(
    calibration: Mapping[str, Array], training: Mapping[str, Array], settings: Quantize | QuantizeOpenvino
) -> dict[str, Array]:
    """The rows to calibrate on: at most `calibration_rows`, evenly spaced over what is given.

    Args:
        calibration: name → array (n, ...), raw inputs as the deployed graph takes them.
        training: the same of all training rows, for their range.
        settings: says how many; the section of the recipe that an error names.

    Raises:
        CalibrationError: no rows or fewer than `minimum_rows`, other inputs than in training, NaN or infinity, or
            another range than in training.
    """
    if set(calibration) != set(training):
        raise CalibrationError(
            f"inputs are {sorted(calibration)}, training has {sorted(training)}",
            where="calibration",
            fix="calibrate on rows of the same data",
        )
    rows = min(len(values) for values in calibration.values())
    if rows < settings.minimum_rows:
        section = "compress.quantize" if isinstance(settings, Quantize) else "compress.quantize_openvino"
        raise CalibrationError(
            f"there are {rows} rows, at least {settings.minimum_rows} are needed",
            where=f"{section}.minimum_rows",
            fix=f"give more rows, lower minimum_rows, or set {section} to null",
        )
    chosen = np.linspace(0, rows - 1, min(rows, settings.calibration_rows)).round().astype(np.int64)
    sample = {name: np.ascontiguousarray(values[chosen]) for name, values in calibration.items()}
    for name, values in sample.items():
        _check_finite(name, values)
        _check_range(name, values, training[name])
    return sample


def answered_rows(
    rows: Mapping[str, Array], good: Array, settings: Quantize | QuantizeOpenvino
) -> tuple[dict[str, Array], list[str]]:
    """The rows that the FP32 model answers with numbers, for a quantizer that one NaN would spoil; and what to say.

    Args:
        rows: name → array (n, ...). good: bool (n,).

    Raises:
        CalibrationError: fewer than `minimum_rows` are left.
    """
    kept, count = int(good.sum()), len(good)
    bad = f"the model answers NaN for {count - kept} of {count} rows"
    if kept < settings.minimum_rows:
        raise CalibrationError(
            f"{bad}; {kept} are left, at least {settings.minimum_rows} are needed", where="calibration", fix=NAN_FIX
        )
    return {name: values[good] for name, values in rows.items()}, [f"{bad}, they were left out"] if kept < count else []


def notes_on_rows(used: int, settings: Quantize | QuantizeOpenvino) -> list[str]:
    """What there is to say when fewer rows were there than asked for."""
    if used < settings.calibration_rows:
        return [f"calibrated on {used} rows, fewer than the {settings.calibration_rows} asked for"]
    return []


def _check_finite(name: str, values: Array) -> None:
    if values.dtype.kind != "f":
        return
    good = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not good.all():
        raise CalibrationError(
            f"{(~good).sum()} of {len(values)} rows hold NaN or infinity, first at row {np.flatnonzero(~good)[0]}",
            where=f"calibration: {name}",
            fix="impute or drop those rows",
        )


def _check_range(name: str, values: Array, training: Array) -> None:
    if values.dtype.kind == "b":
        return
    # Columns of a table have scales of their own; pixels and time steps share one.
    columns = values.shape[1] if values.ndim == 2 and values.dtype.kind == "f" else 1
    for column in range(columns):
        here, there = (array[:, column] if columns > 1 else array for array in (values, training))
        wrong = _differs(here, there)
        if wrong:
            raise CalibrationError(
                wrong,
                where=f"calibration: {name}" + (f", column {column}" if columns > 1 else ""),
                fix="calibrate on rows prepared as in training: raw inputs, scaled neither once more nor once less",
            )


def _some_rows(values: Array) -> Array:
    """Evenly spaced rows with about ENOUGH_VALUES numbers: sorting all of a large split takes seconds each time."""
    rows = max(1, ENOUGH_VALUES * len(values) // max(values.size, 1))
    return values if rows >= len(values) else values[np.linspace(0, len(values) - 1, rows).round().astype(np.int64)]


def _differs(here: Array, there: Array) -> str:
    low, middle, high = np.percentile(here, (LOW, 50, HIGH))
    lower, upper = np.percentile(_some_rows(there), (LOW, HIGH))
    least, most = there.min(), there.max()
    figures = (
        f"the range is {low:.4g} … {high:.4g} (median {middle:.4g}), in training it is {lower:.4g} … {upper:.4g} "
        f"({LOW} to {HIGH} % of the values), {least:.4g} … {most:.4g} at most"
    )
    bulk, whole = upper - lower, most - least
    if not least - whole * 0.5 <= middle <= most + whole * 0.5 or high - low > TOLERANCE * max(bulk, whole):
        return figures
    # A sparse column (most values equal) has no bulk to compare with.
    if bulk > 0 and not bulk / TOLERANCE <= high - low:
        return figures
    return ""
