"""What the user's loader returned, checked at the door and turned into arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trimtab.errors import DataError
from trimtab.recipe import UserCode

REQUIRED = ("train", "validation", "gate")
Array = np.ndarray


@dataclass(frozen=True)
class Split:
    """One split in memory.

    Attributes:
        name: e.g. "train".
        inputs: name → array (n, ...), float32 / int64 / bool; a Dataset that returns one tensor gives {"input": ...}.
        labels: int64 (n,), class indices; of regression float32 (n, k).
        rows: SHA-256 of each row's input bytes, for overlap checks.
        weights: float32 (n,), how many rows each counts as where it is trained on; None: all alike.
    """

    name: str
    inputs: Mapping[str, Array]
    labels: Array
    rows: tuple[str, ...]
    weights: Array | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def digest(self) -> str:
        """SHA-256 of inputs, labels and, where there are any, weights."""
        whole = hashlib.sha256("".join(self.rows).encode())
        whole.update(np.ascontiguousarray(self.labels).tobytes())
        if self.weights is not None:
            whole.update(b"weights" + np.ascontiguousarray(self.weights).tobytes())
        return whole.hexdigest()

    def take(self, index: Array | slice) -> Split:
        """The rows selected by an index array, mask or slice."""
        keep = np.arange(len(self))[index]
        return Split(
            self.name,
            {name: values[keep] for name, values in self.inputs.items()},
            self.labels[keep],
            tuple(self.rows[i] for i in keep),
            None if self.weights is None else self.weights[keep],
        )

    def joined(self, other: Split) -> Split:
        """This split followed by the rows of another with the same inputs."""
        return Split(
            self.name,
            {name: np.concatenate([values, other.inputs[name]]) for name, values in self.inputs.items()},
            np.concatenate([self.labels, other.labels]),
            self.rows + other.rows,
            None
            if self.weights is None and other.weights is None
            else np.concatenate([self.counted(), other.counted()]),
        )

    def counted(self) -> Array:
        """What each row counts as, float32 (n,): 1 where there are no weights."""
        return np.ones(len(self), np.float32) if self.weights is None else self.weights

    def weighted(self, weight: float) -> Split:
        """The same rows, each of which counts as so many where it is trained on."""
        return self if weight == 1 else replace(self, weights=np.full(len(self), weight, np.float32))


def load_split(code: UserCode, name: str) -> Split:
    """Call the recipe's `data(name)` and read it whole.

    Raises:
        UserCodeError: the loader raised. DataError: empty, NaN or infinite, ragged, or labels that are no classes.
    """
    dataset = code.dataset(name)
    where = f"data({name!r})"
    try:
        length = len(dataset)
    except TypeError:
        raise DataError(
            f"returned {type(dataset).__name__}, which has no length",
            where=where,
            fix="return a map-style torch Dataset",
        ) from None
    if length == 0:
        raise DataError("the split is empty", where=where, fix="return at least one row")
    with code.in_front():
        rows = [dataset[i] for i in range(length)]
    return make_split(name, rows, code.recipe.purpose.regression)


def make_split(name: str, rows: Sequence[Any], regression: bool = False) -> Split:
    """Arrays from (input, label) pairs; an input is one tensor or a mapping of named tensors.

    Args:
        regression: whether labels are numbers, one or k a row, instead of class indices.
    """
    where = f"data({name!r})"
    if not all(isinstance(row, tuple | list) and len(row) == 2 for row in rows):
        raise DataError("a row is not a pair (input, label)", where=where, fix="return (input, label) from __getitem__")
    named = [row[0] if isinstance(row[0], Mapping) else {"input": row[0]} for row in rows]
    inputs = {key: _stack([row[key] for row in named], f"{where}: {key}") for key in named[0]}
    labels = (_numbers if regression else _labels)([row[1] for row in rows], where)
    return from_arrays(name, inputs, labels)


def from_arrays(name: str, inputs: Mapping[str, Array], labels: Array) -> Split:
    """A split from arrays that are already stacked; checks that every number is finite."""
    for key, values in inputs.items():
        _check_finite(values, f"data({name!r}): {key}")
    blocks = [np.ascontiguousarray(values) for values in inputs.values()]
    rows = tuple(hashlib.sha256(b"".join(b[i].tobytes() for b in blocks)).hexdigest() for i in range(len(labels)))
    return Split(name, dict(inputs), labels, rows)


def check_splits(splits: Mapping[str, Split]) -> None:
    """Checks across splits: same inputs and shapes, labels that vary, nothing of the gate in training.

    Raises:
        DataError: naming the split, the figure and what to do.
    """
    train = splits["train"]
    _check_labels_vary(train)
    for split in splits.values():
        _check_same_shape(train, split)
    for name in ("validation", "gate"):
        shared = set(splits[name].rows) & set(train.rows)
        if shared:
            raise DataError(
                f"{len(shared)} of {len(splits[name])} rows are also in train",
                where=f"data({name!r})",
                fix="split by source, so that what is measured was never trained on",
            )
    shared = set(splits["gate"].rows) & set(splits["validation"].rows)
    if shared:
        raise DataError(f"{len(shared)} rows are also in validation", where="data('gate')", fix="split by source")


def data_digest(splits: Mapping[str, Split]) -> str:
    """SHA-256 over the splits' names and contents."""
    return hashlib.sha256(
        "".join(f"{name}:{split.digest};" for name, split in sorted(splits.items())).encode()
    ).hexdigest()


def classes_of(splits: Mapping[str, Split]) -> int:
    """Number of classes: one more than the largest label in any split. Not of regression."""
    return 1 + max(int(split.labels.max()) for split in splits.values())


def _stack(values: Sequence[Any], where: str) -> Array:
    arrays = [np.asarray(value) for value in values]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise DataError(
            f"rows have different shapes: {sorted(shapes)[:3]}", where=where, fix="pad or crop to one shape"
        )
    stacked = np.stack(arrays)
    if stacked.dtype.kind == "f":
        return np.ascontiguousarray(stacked, np.float32)
    if stacked.dtype.kind in "iu":
        return np.ascontiguousarray(stacked, np.int64)
    if stacked.dtype.kind == "b":
        return np.ascontiguousarray(stacked)
    raise DataError(f"dtype {stacked.dtype} is not numeric", where=where, fix="return float, integer or bool tensors")


def _check_finite(values: Array, where: str) -> None:
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return
    bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
    raise DataError(
        f"{len(bad)} of {len(values)} rows hold NaN or infinity, first at row {bad[0]}",
        where=where,
        fix="impute or drop those rows in your loader",
    )


def _labels(values: Sequence[Any], where: str) -> Array:
    labels = np.asarray([np.asarray(value).item() for value in values])
    if labels.dtype.kind == "f" and not (np.isfinite(labels).all() and (labels == labels.astype(np.int64)).all()):
        raise DataError("labels are not whole numbers", where=where, fix="give class indices 0 … C-1")
    labels = labels.astype(np.int64)
    if labels.min() < 0:
        raise DataError(f"label {labels.min()} is negative", where=where, fix="give class indices 0 … C-1")
    return labels


def _numbers(values: Sequence[Any], where: str) -> Array:
    """Labels of regression, float32 (n, k): a scalar a row, or one vector of k."""
    arrays = [np.asarray(value) for value in values]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1 or len(next(iter(shapes))) > 1 or 0 in next(iter(shapes)):
        raise DataError(
            f"labels have shapes {sorted(shapes)[:3]}", where=where, fix="give one number a row, or one vector of k"
        )
    stacked = np.stack(arrays)
    if stacked.dtype.kind not in "fiu":
        raise DataError(f"labels of dtype {stacked.dtype} are no numbers", where=where, fix="give floats")
    with np.errstate(over="ignore"):
        labels = np.ascontiguousarray(stacked.reshape(len(stacked), -1), np.float32)
    _check_finite(labels, f"{where}: label")
    return labels


def _check_labels_vary(train: Split) -> None:
    where = "data('train')"
    if train.labels.dtype.kind == "f":
        constant = np.flatnonzero((train.labels == train.labels[0]).all(axis=0))
        if len(constant):
            column = int(constant[0])
            raise DataError(
                f"all {len(train)} labels of output {column} are {train.labels[0, column]:g}: nothing to learn",
                where=where,
                fix="give labels that vary, or leave the output out",
            )
    elif len(np.unique(train.labels)) < 2:
        raise DataError(
            f"all {len(train)} labels are {train.labels[0]}: one class only",
            where=where,
            fix="give two classes or more",
        )


def _check_same_shape(train: Split, other: Split) -> None:
    expected = {name: (values.shape[1:], values.dtype.name) for name, values in train.inputs.items()}
    given = {name: (values.shape[1:], values.dtype.name) for name, values in other.inputs.items()}
    if expected != given:
        raise DataError(
            f"inputs are {given}, train has {expected}",
            where=f"data({other.name!r})",
            fix="return the same inputs",
        )
    if train.labels.shape[1:] != other.labels.shape[1:]:
        raise DataError(
            f"a label has {other.labels.shape[1]} numbers, in train {train.labels.shape[1]}",
            where=f"data({other.name!r})",
            fix="return labels of one width",
        )
