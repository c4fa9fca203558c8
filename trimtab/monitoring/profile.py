"""The profile of a release: what its columns looked like, and how accurate it was, when it was verified."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from trimtab.candidate import Interval
from trimtab.errors import DataError, RegistryError
from trimtab.monitoring.columns import (
    PREDICTED,
    InputKind,
    columns,
    fit_inputs,
    input_kinds,
    is_fitted,
    is_prediction,
    number_columns,
)
from trimtab.monitoring.descriptors import Fitted
from trimtab.monitoring.performance import exact_accuracy, metric_interval
from trimtab.task import CLASSIFICATION, Metric, Task

Array = np.ndarray
Kind = Literal["numeric", "categorical", "boolean", "constant", "datetime", "empty"]
LABEL = "label"
MAX_CODES = 20
ROWS_A_CODE = 5
# 2000 to 2100 in seconds, milli-, micro- and nanoseconds since 1970: a column of such whole numbers is points in time.
EPOCH = (946_684_800, 4_102_444_800)
EPOCH_UNITS = (1, 10**3, 10**6, 10**9)
MOST_CODES = 1000
NO_COLUMNS: Mapping[str, Array] = {}
Given = Literal["numeric", "categorical", "datetime"]
NO_KINDS: Mapping[str, Given] = {}


@dataclass(frozen=True)
class ColumnProfile:
    """One column of the reference.

    Attributes:
        kind: decided once, here; a window never changes it. "empty" has no finite value and is never tested, nor is
            "datetime", which always moves on.
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
        fitted: what was learnt of inputs watched by descriptors; a release that was profiled before has none.
        own: names of the recipe's own descriptors.
    """

    n: int
    classes: int
    kinds: Mapping[str, InputKind]
    columns: tuple[ColumnProfile, ...]
    accuracy: Interval
    metric: Metric | None = None
    fitted: Mapping[str, Fitted] = field(default_factory=dict)
    own: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe; `metric` is not in that of a classifier."""
        plain: dict[str, Any] = {
            **{name: getattr(self, name) for name in ("n", "classes", "metric")},
            "kinds": dict(self.kinds),
            "columns": [asdict(column) for column in self.columns],
            "accuracy": asdict(self.accuracy),
            "fitted": {name: fitted.to_json() for name, fitted in self.fitted.items()},
            "own": list(self.own),
        }
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
            fitted={name: Fitted.from_json(entry) for name, entry in value.get("fitted", {}).items()},
            own=tuple(value.get("own", ())),
        )


def build(
    inputs: Mapping[str, Array],
    output: Array,
    labels: Array,
    accuracy: Interval | None = None,
    task: Task = CLASSIFICATION,
    own: Mapping[str, Array] = NO_COLUMNS,
    given: Mapping[str, Given] = NO_KINDS,
) -> tuple[Profile, dict[str, Array]]:
    """Profile and reference columns of a release.

    Args:
        inputs: name → (n, ...), rows the model was not trained on.
        output: (n, C) probabilities the release gave for them.
        labels: int64 (n,).
        accuracy: the verified accuracy; None: the exact interval over these rows (of a regression a bootstrap's).
        task: of a regression `output` and `labels` are numbers, float (n, k).
        own: the recipe's own descriptors of these rows, name → (n,).
        given: column → its kind, where the recipe says it ("numeric", "categorical", "datetime").

    Returns:
        the profile, and the reference columns with `label` added, for `reference_parquet`. Of columns that follow from
        what is learnt here (`descriptors.Fitted`) every other row is NaN: those rows were learnt from.

    Raises:
        DataError: no rows, or lengths that differ.
    """
    lengths = {"output": len(output), "labels": len(labels), **{name: len(v) for name, v in inputs.items()}}
    if len(output) == 0 or len(set(lengths.values())) > 1:
        raise DataError(
            f"lengths are {lengths}", where="reference sample", fix="give the same rows, one or more, to all"
        )
    kinds = input_kinds(inputs)
    fitted = fit_inputs(inputs, kinds)
    if task.regression:
        named = number_columns(inputs, output, kinds, fitted)
        verified = metric_interval(task.metric, output, labels)
        metric, known = task.metric, None
        # Labels of several outputs are not compared with anything later: the reference keeps those of one.
        label = {LABEL: np.asarray(labels, np.float64)[:, 0]} if output.shape[1] == 1 else {}
    else:
        predicted = output.argmax(axis=1)
        named = columns(inputs, output, predicted, output.max(axis=1), kinds, fitted)
        verified = accuracy or exact_accuracy(predicted, np.asarray(labels))
        metric, known = None, np.arange(output.shape[1])
        label = {LABEL: np.asarray(labels, np.int64)}
    named = {name: _without_learnt_rows(name, values) for name, values in {**named, **own}.items()}
    described = tuple(
        describe(name, values[1::2] if is_fitted(name) else values, known if name == PREDICTED else None, given)
        for name, values in named.items()
    )
    profile = Profile(len(output), output.shape[1], kinds, described, verified, metric, fitted, tuple(own))
    return profile, {**named, **label}


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


def describe(
    name: str, values: Array, known: Array | None = None, given: Mapping[str, Given] = NO_KINDS
) -> ColumnProfile:
    """The profile of a reference column.

    Args:
        name: its name; a regression's answer is a number, whatever few values a small sample holds.
        values: (n,) numbers.
        known: its categories where they are known beforehand; None: what it holds decides.
        given: column → kind, where somebody said it.
    """
    finite = values[np.isfinite(values)]
    not_finite = len(values) - len(finite)
    if len(finite) == 0:
        return ColumnProfile(name, "empty", len(values), not_finite, None, None)
    low, high = float(finite.min()), float(finite.max())
    distinct = np.unique(finite) if known is None else known
    kind = "categorical" if known is not None else _kind(distinct, len(finite))
    if is_prediction(name) and kind != "constant":
        kind = "numeric"
    kind = _said(name, kind, distinct, given)
    categories = None if kind in ("numeric", "datetime") else tuple(code(float(value)) for value in distinct)
    return ColumnProfile(name, kind, len(values), not_finite, low, high, categories)


def _said(name: str, found: Kind, distinct: Array, given: Mapping[str, Given]) -> Kind:
    said = given.get(name)
    if said == "categorical" and found not in ("constant", "boolean"):
        if len(distinct) > MOST_CODES:
            raise DataError(
                f"{len(distinct)} values are too many to be categories, at most {MOST_CODES} are watched",
                where=f"monitoring.drift.columns.{name}.kind",
                fix="leave it out, or say numeric",
            )
        return "categorical"
    return found if said is None or said == "categorical" else said


def _without_learnt_rows(name: str, values: Array) -> Array:
    if not is_fitted(name):
        return values
    kept: Array = np.full(len(values), np.nan)
    kept[1::2] = values[1::2]
    return kept


def _kind(distinct: Array, n: int) -> Kind:
    if len(distinct) == 1:
        return "constant"
    if set(distinct.tolist()) == {0.0, 1.0}:
        return "boolean"
    if not (distinct == np.floor(distinct)).all():
        return "numeric"
    if len(distinct) <= min(MAX_CODES, n // ROWS_A_CODE):
        return "categorical"
    low, high = EPOCH
    moments = any(distinct[0] >= low * unit and distinct[-1] <= high * unit for unit in EPOCH_UNITS)
    return "datetime" if moments else "numeric"
