"""The columns that are watched: from a window's inputs and answers to named one-dimensional arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from trimtab.descriptors import NAMES, descriptors, is_wide
from trimtab.journal.rows import DESCRIPTORS

Array = np.ndarray
InputKind = Literal["tabular", "descriptors"]
PREDICTED, CONFIDENCE, ENTROPY = "predicted", "confidence", "entropy"
OUTPUT_COLUMNS = (CONFIDENCE, ENTROPY, PREDICTED)
PREDICTION = "prediction"


def input_kinds(inputs: Mapping[str, Array]) -> dict[str, InputKind]:
    """How each input is watched: one column a feature up to 64 features, else descriptors of the row.

    Decided once, on the reference sample, and kept in the profile.
    """
    return {name: _kind(np.asarray(values)) for name, values in sorted(inputs.items())}


def columns(
    inputs: Mapping[str, Array] | None,
    output: Array,
    predicted: Array,
    confidence: Array,
    kinds: Mapping[str, InputKind],
) -> dict[str, Array]:
    """Columns of n rows: the inputs', then confidence, entropy (nats) and the predicted class.

    Args:
        inputs: name → (n, ...) or fewer rows, or `descriptors:name` → (n, 5); None when they are not journalled: only
            the output's columns come back.
        output: (n, C) probabilities.
        predicted: (n,) class indices.
        confidence: (n,) probability of the predicted class.
        kinds: from `input_kinds` of the reference; an input it does not name is left out.

    Returns:
        name → (n,): "input[3]" for a tabular feature, "input.mean" for a descriptor; float64, `predicted` int64.
    """
    result = _of_inputs(inputs, kinds)
    result[CONFIDENCE] = np.asarray(confidence, np.float64)
    result[ENTROPY] = entropy(np.asarray(output, np.float64))
    result[PREDICTED] = np.asarray(predicted, np.int64)
    return result


def number_columns(
    inputs: Mapping[str, Array] | None, output: Array, kinds: Mapping[str, InputKind]
) -> dict[str, Array]:
    """The same of a regression: the inputs', then the answer: "prediction", of several "prediction.0", "prediction.1".

    Args:
        output: (n, k) numbers.
    """
    result = _of_inputs(inputs, kinds)
    wide = np.asarray(output, np.float64)
    if wide.shape[1] == 1:
        return {**result, PREDICTION: wide[:, 0]}
    return {**result, **{f"{PREDICTION}.{index}": wide[:, index] for index in range(wide.shape[1])}}


def is_prediction(name: str) -> bool:
    """Whether a column is of a regression's answer; no input's column has such a name."""
    return name == PREDICTION or (name.startswith(f"{PREDICTION}.") and name.removeprefix(f"{PREDICTION}.").isdigit())


def entropy(output: Array) -> Array:
    """Shannon entropy of each row of probabilities (n, C), in nats; NaN where a row is not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(output > 0, output * np.log(output), 0.0)
    return np.where(np.isfinite(output).all(axis=1), -terms.sum(axis=1), np.nan)


def _kind(values: Array) -> InputKind:
    return "descriptors" if is_wide(values.shape) else "tabular"


def _of_inputs(inputs: Mapping[str, Array] | None, kinds: Mapping[str, InputKind]) -> dict[str, Array]:
    result: dict[str, Array] = {}
    for name, kind in kinds.items():
        if inputs is not None and name in inputs:
            result |= _of_input(name, np.asarray(inputs[name]), kind)
        elif inputs is not None and DESCRIPTORS + name in inputs:
            described = np.asarray(inputs[DESCRIPTORS + name], np.float64)
            result |= {f"{name}.{key}": described[:, index] for index, key in enumerate(NAMES)}
    return result


def _of_input(name: str, values: Array, kind: InputKind) -> dict[str, Array]:
    if values.dtype.kind == "f":
        # What the model saw. A client's 0.1 in double precision is another number than the reference's float32 0.1,
        # and would make a constant column look changed.
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
    if kind == "descriptors":
        return {f"{name}.{key}": column for key, column in descriptors(values).items()}
    table = np.asarray(values, np.float64).reshape(len(values), -1)
    return {f"{name}[{i}]": table[:, i] for i in range(table.shape[1])}
