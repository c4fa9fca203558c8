"""What the journal holds: scored rows and labels, one at a time (`Row`, `LabelRow`) and by columns (the blocks)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

Array = np.ndarray
# Before an input's name, what stands in its place: descriptors, float64 (n, 5); a hash, int64 (n,); nothing, (n, 0).
DESCRIPTORS, HASH, REDACTED = "descriptors:", "hash:", "redacted:"
Signature = tuple[tuple[str, str, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One scored row of one request.

    Attributes:
        request_id: of the request; the client's own or one we made.
        row: index of the row in its request.
        time_ns: when it was answered, nanoseconds since the epoch (UTC).
        version: version of the release that answered.
        inputs: name → that row's values, array or (nested) list; None when inputs are not kept. Behind a prefix what
            stands in an input's place.
        output: probabilities (classes,), or numbers (k,); empty when the model failed.
        predicted: index of the largest probability (0 of a regression), -1 when the model failed.
        confidence: the largest probability, NaN of a regression and when the model failed.
        latency_ms: from the request's arrival to the model's answer.
        status: HTTP status of the answer.
        error: type of the error, None when there was none.
    """

    request_id: str
    row: int
    time_ns: int
    version: str
    inputs: Mapping[str, Any] | None
    output: Sequence[float] | Array
    predicted: int
    confidence: float
    latency_ms: float
    status: int = 200
    error: str | None = None


@dataclass(frozen=True, slots=True)
class LabelRow:
    """The true class of one scored row, as it arrived.

    Attributes:
        label: class index, 0 or more; of a regression a finite number.
        time_ns: when it arrived.
    """

    request_id: str
    row: int
    label: int | float
    time_ns: int


@dataclass(frozen=True)
class RowBlock:
    """n rows by columns; every row of a block has the same inputs (names, dtypes, shapes) and number of classes.

    Attributes:
        offset: int64 (n,), 0-based position of each row in the journal.
        request_id, version, error: n strings (error: None where there was none).
        row, predicted, status: int32 (n,). time_ns: int64 (n,). confidence, latency_ms: float64 (n,).
        output: float32 (n, C); C is 0 where the model failed.
        inputs: name → (n, ...); empty when inputs were not kept.
    """

    offset: Array
    request_id: list[str]
    row: Array
    time_ns: Array
    version: list[str]
    predicted: Array
    confidence: Array
    latency_ms: Array
    status: Array
    error: list[str | None]
    output: Array
    inputs: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.request_id)

    @property
    def signature(self) -> Signature:
        """What rows must share to be in one block: name, dtype and shape a row, of every input and of the output."""
        arrays = [*sorted(self.inputs.items()), ("", self.output)]
        return tuple((name, values.dtype.str, values.shape[1:]) for name, values in arrays)

    def take(self, index: Array) -> RowBlock:
        """The rows at these positions."""
        return RowBlock(
            offset=self.offset[index],
            request_id=[self.request_id[i] for i in index],
            row=self.row[index],
            time_ns=self.time_ns[index],
            version=[self.version[i] for i in index],
            predicted=self.predicted[index],
            confidence=self.confidence[index],
            latency_ms=self.latency_ms[index],
            status=self.status[index],
            error=[self.error[i] for i in index],
            output=self.output[index],
            inputs={name: values[index] for name, values in self.inputs.items()},
        )


@dataclass(frozen=True)
class LabelBlock:
    """m labels by columns, in the order of their arrival.

    Attributes:
        at: int64 (m,), how many rows the journal held when the label was written.
        known: bool (m,), whether the journal held the row the label names at that moment.
        request_id: m strings. row: int32 (m,). label, time_ns: int64 (m,); labels of a regression float64.
    """

    at: Array
    request_id: list[str]
    row: Array
    label: Array
    time_ns: Array
    known: Array

    def __len__(self) -> int:
        return len(self.request_id)


def blocks_of(rows: Sequence[Row], offset: int = 0) -> Iterator[RowBlock]:
    """Rows as blocks, in order; a new block begins where the inputs or the number of classes change.

    Args:
        offset: position of the first row in the journal.

    Raises:
        ValueError, TypeError: an input or output is not numeric, or ragged.
    """
    for (names, _), group in groupby(map(_with_arrays, rows), key=_key):
        part = list(group)
        first = [row for row, _, _ in part]
        yield RowBlock(
            offset=np.arange(offset, offset + len(part), dtype=np.int64),
            request_id=[row.request_id for row in first],
            row=np.array([row.row for row in first], np.int32),
            time_ns=np.array([row.time_ns for row in first], np.int64),
            version=[row.version for row in first],
            predicted=np.array([row.predicted for row in first], np.int32),
            confidence=np.array([row.confidence for row in first], np.float64),
            latency_ms=np.array([row.latency_ms for row in first], np.float64),
            status=np.array([row.status for row in first], np.int32),
            error=[row.error for row in first],
            output=np.stack([output for _, output, _ in part]),
            inputs={name: np.stack([inputs[name] for _, _, inputs in part]) for name in names},
        )
        offset += len(part)


def merged(blocks: Sequence[RowBlock]) -> list[RowBlock]:
    """Blocks of equal signature joined; rows keep their offsets, not their order between the results."""
    together: dict[Signature, list[RowBlock]] = {}
    for block in blocks:
        together.setdefault(block.signature, []).append(block)
    return [_joined(group) for group in together.values()]


def _with_arrays(row: Row) -> tuple[Row, Array, dict[str, Array]]:
    inputs = {name: _plain(name, np.asarray(values)) for name, values in (row.inputs or {}).items()}
    return row, np.asarray(row.output, np.float32), inputs


def _plain(name: str, values: Array) -> Array:
    """One of the three dtypes a model takes; keeps files readable by anyone, refuses text and objects.

    Descriptors stay in double precision: they are compared with a reference's, and rounding moves each of a share's few
    values to one side, which a test of distributions takes for drift.
    """
    if name.startswith(DESCRIPTORS):
        return values.astype(np.float64, copy=False)
    if values.dtype.kind == "f":
        return values.astype(np.float32, copy=False)
    if values.dtype.kind in "iu":
        return values.astype(np.int64, copy=False)
    if values.dtype.kind == "b":
        return values
    raise TypeError(f"dtype {values.dtype} cannot be journalled")


def _key(item: tuple[Row, Array, dict[str, Array]]) -> tuple[tuple[str, ...], Any]:
    _, output, inputs = item
    names = tuple(sorted(inputs))
    return names, (output.shape, [(inputs[name].dtype.str, inputs[name].shape) for name in names])


def _joined(group: list[RowBlock]) -> RowBlock:
    if len(group) == 1:
        return group[0]

    def joined(name: str) -> Any:
        columns = [getattr(block, name) for block in group]
        if isinstance(columns[0], list):
            return [value for column in columns for value in column]
        return np.concatenate(columns)

    columns = {name: joined(name) for name in RowBlock.__dataclass_fields__ if name != "inputs"}
    inputs = {name: np.concatenate([block.inputs[name] for block in group]) for name in group[0].inputs}
    return RowBlock(**columns, inputs=inputs)
