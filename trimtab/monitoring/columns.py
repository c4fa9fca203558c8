"""The columns that are watched: from a window's inputs and answers to named one-dimensional arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np

from trimtab.descriptors import MAX_TABULAR, NAMES, descriptors, is_wide
from trimtab.journal.rows import DESCRIPTORS
from trimtab.monitoring.descriptors import FITTED, Fitted, Form, described, fit, form_of

Array = np.ndarray
# "descriptors": five of them and nothing fitted, as releases were profiled before there were forms.
InputKind = Literal["tabular", "image", "sequence", "vector", "descriptors"]
FORMS = get_args(Form)
PREDICTED, CONFIDENCE, ENTROPY = "predicted", "confidence", "entropy"
OUTPUT_COLUMNS = (CONFIDENCE, ENTROPY, PREDICTED)
PREDICTION = "prediction"
NO_FITS: Mapping[str, Fitted] = {}


def input_kinds(inputs: Mapping[str, Array]) -> dict[str, InputKind]:
    """How each input is watched: one column a feature up to 64 features, else descriptors of the row.

    Decided once, on the reference sample, and kept in the profile.
    """
    return {name: _kind(np.asarray(values)) for name, values in sorted(inputs.items())}


def fit_inputs(inputs: Mapping[str, Array], kinds: Mapping[str, InputKind]) -> dict[str, Fitted]:
    """What is learnt of the inputs that are watched by descriptors, from every other row of the reference."""
    return {name: fit(_as_seen(np.asarray(inputs[name]))[::2]) for name, kind in kinds.items() if kind in FORMS}


def is_fitted(name: str) -> bool:
    """Whether a column's values follow from what was learnt of the reference; see `Fitted`."""
    return name.rpartition(".")[2] in FITTED and "." in name


def columns(
    inputs: Mapping[str, Array] | None,
    output: Array,
    predicted: Array,
    confidence: Array,
    kinds: Mapping[str, InputKind],
    fitted: Mapping[str, Fitted] = NO_FITS,
) -> dict[str, Array]:
    """Columns of n rows: the inputs', then confidence, entropy (nats) and the predicted class.

    Args:
        inputs: name → (n, ...) or fewer rows, or `descriptors:name` → (n, 5); None when they are not journalled: only
            the output's columns come back.
        output: (n, C) probabilities.
        predicted: (n,) class indices.
        confidence: (n,) probability of the predicted class.
        kinds: from `input_kinds` of the reference; an input it does not name is left out.
        fitted: from `fit_inputs` of the reference.

    Returns:
        name → (n,): "input[3]" for a tabular feature, "input.mean" for a descriptor; float64, `predicted` int64.
    """
    result = _of_inputs(inputs, kinds, fitted)
    result[CONFIDENCE] = np.asarray(confidence, np.float64)
    result[ENTROPY] = entropy(np.asarray(output, np.float64))
    result[PREDICTED] = np.asarray(predicted, np.int64)
    return result


def number_columns(
    inputs: Mapping[str, Array] | None,
    output: Array,
    kinds: Mapping[str, InputKind],
    fitted: Mapping[str, Fitted] = NO_FITS,
) -> dict[str, Array]:
    """The same of a regression: the inputs', then the answer: "prediction", of several "prediction.0", "prediction.1".

    Args:
        output: (n, k) numbers.
    """
    result = _of_inputs(inputs, kinds, fitted)
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
    return form_of(values) if is_wide(values.shape) else "tabular"


def _of_inputs(
    inputs: Mapping[str, Array] | None, kinds: Mapping[str, InputKind], fitted: Mapping[str, Fitted]
) -> dict[str, Array]:
    result: dict[str, Array] = {}
    for name, kind in kinds.items():
        if inputs is not None and name in inputs:
            result |= _of_input(name, _as_seen(np.asarray(inputs[name])), kind, fitted.get(name))
        elif inputs is not None and DESCRIPTORS + name in inputs:
            given = np.asarray(inputs[DESCRIPTORS + name], np.float64)
            result |= {f"{name}.{key}": given[:, index] for index, key in enumerate(NAMES)}
    return result


def _of_input(name: str, values: Array, kind: InputKind, fitted: Fitted | None) -> dict[str, Array]:
    if kind == "tabular":
        table = np.asarray(values, np.float64).reshape(len(values), -1)
        width = table.shape[1] if table.shape[1] <= MAX_TABULAR else 0  # rows of another kind: the columns are missing
        return {f"{name}[{i}]": table[:, i] for i in range(width)}
    if values.ndim < 2:
        return {}
    found = descriptors(values) if kind == "descriptors" else described(values, kind, fitted)
    return {f"{name}.{key}": column for key, column in found.items()}


def _as_seen(values: Array) -> Array:
    """What the model saw. A client's 0.1 in double precision is another number than the reference's float32 0.1, and
    would make a constant column look changed."""
    if values.dtype.kind != "f":
        return values
    with np.errstate(over="ignore"):
        return values.astype(np.float32)
