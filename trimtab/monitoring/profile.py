"""The profile of a release: what its columns looked like, and how accurate it was, when it was verified."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from trimtab.candidate import Interval
from trimtab.errors import DataError, RegistryError
from trimtab.monitoring.columns import PREDICTED, InputKind, columns, input_kinds, is_prediction, number_columns
from trimtab.monitoring.performance import exact_accuracy, metric_interval
from trimtab.task import CLASSIFICATION, Metric, Task

Array = np.ndarray
Kind = Literal["numeric", "categorical", "boolean", "constant", "empty"]
LABEL = "label"
MAX_CODES = 20
ROWS_A_CODE = 5


@dataclass(frozen=True)
class ColumnProfile:
    """One column of the reference.

    Attributes:
        kind: decided once, here; a window never changes it. "empty" has no finite value and is never tested.
        n: rows; not_finite: rows that hold NaN or infinity.
        low, high: range of the finite values (None when empty).
        categories: known categories as text; None for a numeric column.
    """

    name: str
    kind: Kind
    n: int
    not_finite: int
    low: float | None
    high: float | None
    categories: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Profile:
    """The reference of a release.

    Attributes:
        n: rows of the reference sample. They must be rows the model was not trained on: its confidence on training
            rows is higher, which would be found as drift in every window.
        classes: number of classes.
        kinds: how each input is watched.
        columns: one entry a column.
        accuracy: the verified accuracy; of a regression the verified metric.
        metric: of a regression "rmse", "mae" or "r2"; None: classes. `classes` is then how many numbers a row has.
    """

    n: int
    classes: int
    kinds: Mapping[str, InputKind]
    columns: tuple[ColumnProfile, ...]
    accuracy: Interval
    metric: Metric | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe; `metric` is not in that of a classifier."""
        plain = {**asdict(self), "columns": [asdict(column) for column in self.columns]}
        if self.metric is None:
            del plain["metric"]
        return plain

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Profile:
        """The inverse of `to_json`."""
        entries = [dict(column) for column in value["columns"]]
        for entry in entries:
            if entry["categories"] is not None:
                entry["categories"] = tuple(entry["categories"])
        return cls(
            n=value["n"],
            classes=value["classes"],
            kinds=dict(value["kinds"]),
            columns=tuple(ColumnProfile(**entry) for entry in entries),
            accuracy=Interval(**value["accuracy"]),
            metric=value.get("metric"),
        )


def build(
    inputs: Mapping[str, Array],
    output: Array,
    labels: Array,
    accuracy: Interval | None = None,
    task: Task = CLASSIFICATION,
) -> tuple[Profile, dict[str, Array]]:
    """Profile and reference columns of a release.

    Args:
        inputs: name → (n, ...), rows the model was not trained on.
        output: (n, C) probabilities the release gave for them.
        labels: int64 (n,).
        accuracy: the verified accuracy; None: the exact interval over these rows (of a regression a bootstrap's).
        task: of a regression `output` and `labels` are numbers, float (n, k).

    Returns:
        the profile, and the reference columns with `label` added, for `reference_parquet`.

    Raises:
        DataError: no rows, or lengths that differ.
    """
    lengths = {"output": len(output), "labels": len(labels), **{name: len(v) for name, v in inputs.items()}}
    if len(output) == 0 or len(set(lengths.values())) > 1:
        raise DataError(
            f"lengths are {lengths}", where="reference sample", fix="give the same rows, one or more, to all"
        )
    kinds = input_kinds(inputs)
    if task.regression:
        return _of_numbers(kinds, inputs, output, labels, task)
    predicted = output.argmax(axis=1)
    named = columns(inputs, output, predicted, output.max(axis=1), kinds)
    profile = Profile(
        n=len(output),
        classes=output.shape[1],
        kinds=kinds,
        columns=tuple(_describe(name, values, output.shape[1]) for name, values in named.items()),
        accuracy=accuracy or exact_accuracy(predicted, np.asarray(labels)),
    )
    return profile, {**named, LABEL: np.asarray(labels, np.int64)}


def _of_numbers(
    kinds: Mapping[str, InputKind], inputs: Mapping[str, Array], output: Array, labels: Array, task: Task
) -> tuple[Profile, dict[str, Array]]:
    named = number_columns(inputs, output, kinds)
    profile = Profile(
        n=len(output),
        classes=output.shape[1],
        kinds=kinds,
        columns=tuple(_describe(name, values, 0) for name, values in named.items()),
        accuracy=metric_interval(task.metric, output, labels),
        metric=task.metric,
    )
    # Labels of several outputs are not compared with anything later: the reference keeps those of one.
    return profile, {**named, LABEL: np.asarray(labels, np.float64)[:, 0]} if output.shape[1] == 1 else named


def code(value: float) -> str:
    """A category as text: whole numbers without a decimal point."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def reference_parquet(reference: Mapping[str, Array]) -> bytes:
    """Reference columns as the bytes of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table({name: pa.array(values) for name, values in reference.items()}), buffer)
    return buffer.getvalue()


def read_reference(path: Path) -> dict[str, Array]:
    """Reference columns of a release.

    Raises:
        RegistryError: the file is missing or is not Parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(path.read_bytes()))
    except (OSError, pa.ArrowException) as error:
        raise RegistryError(
            f"the reference columns cannot be read: {error}", where=str(path), fix="register the release again"
        ) from None
    return {name: table.column(name).to_numpy() for name in table.column_names}


def _describe(name: str, values: Array, classes: int) -> ColumnProfile:
    finite = values[np.isfinite(values)]
    not_finite = len(values) - len(finite)
    if len(finite) == 0:
        return ColumnProfile(name, "empty", len(values), not_finite, None, None)
    low, high = float(finite.min()), float(finite.max())
    known = np.arange(classes) if name == PREDICTED else np.unique(finite)
    kind = "categorical" if name == PREDICTED else _kind(known, len(finite))
    if is_prediction(name) and kind != "constant":
        kind = "numeric"  # whatever few values a small sample holds
    categories = None if kind == "numeric" else tuple(code(float(value)) for value in known)
    return ColumnProfile(name, kind, len(values), not_finite, low, high, categories)


def _kind(distinct: Array, n: int) -> Kind:
    if len(distinct) == 1:
        return "constant"
    if set(distinct.tolist()) == {0.0, 1.0}:
        return "boolean"
    whole = bool((distinct == np.floor(distinct)).all())
    return "categorical" if whole and len(distinct) <= min(MAX_CODES, n // ROWS_A_CODE) else "numeric"
