"""A window: the rows of the journal from one offset to another, joined with the labels that had arrived."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trimtab.journal.rows import Array, LabelBlock, RowBlock

NO_LABEL = -1
Form = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]  # input → shape and dtype of a row


@dataclass(frozen=True)
class Window:
    """n rows, in the order of the journal.

    Attributes:
        request_id, version: object (n,) of str. row: int32 (n,). time_ns: int64 (n,).
        predicted: int32 (n,), -1 where the model failed. confidence, latency_ms: float64 (n,).
        output: float32 (n, C); NaN where the model failed, or where another version had fewer classes.
        inputs: name → (n, ...), or None when no row has any; where `has_inputs` is False, NaN (0 for integers).
        label: int64 (n,), -1 where no label has arrived; of a regression float64, NaN there.
        status: int32 (n,), HTTP status. errors: type of error → rows.
        lo, hi: offsets; the window holds the rows lo ≤ offset < hi.
        labelled: rows with a label. duplicates: labels that another one for the same row replaced.
        unknown_labels: labels, arrived since the window began, for rows the journal did not hold at that moment.
        has_inputs: bool (n,), whether the row's inputs were kept and are what the window's last ones are, in the size
            that most of these have.
        label_time_ns: int64 (n,), when the label that counts arrived; -1 where none has.
        labels_as_of_ns: when the last of the labels that were counted here arrived, 0 without any. Reading the same
            rows with labels as of this moment gives the same window, whatever arrives later.
        error: object (n,), type of the row's error, None where there was none; empty in windows made by hand.
    """

    request_id: Array
    row: Array
    time_ns: Array
    version: Array
    predicted: Array
    confidence: Array
    output: Array
    inputs: Mapping[str, Array] | None
    label: Array
    status: Array
    lo: int
    hi: int
    labelled: int
    duplicates: int
    unknown_labels: int
    errors: Mapping[str, int] = field(default_factory=dict)
    latency_ms: Array = field(default_factory=lambda: np.empty(0))
    has_inputs: Array = field(default_factory=lambda: np.empty(0, np.bool_))
    label_time_ns: Array = field(default_factory=lambda: np.empty(0, np.int64))
    labels_as_of_ns: int = 0
    error: Array = field(default_factory=lambda: np.empty(0, object))

    def __len__(self) -> int:
        return len(self.request_id)

    @property
    def coverage(self) -> float:
        """Share of rows with a label; 0 for an empty window."""
        return self.labelled / len(self) if len(self) else 0.0

    @property
    def label_delay_s(self) -> Array:
        """Seconds from answer to label of each labelled row, float64 (labelled,); 0 where the label was there first."""
        return label_delay_s(self.time_ns, self.label_time_ns)

    @property
    def coverage_by_predicted(self) -> dict[int, tuple[int, int]]:
        """Predicted class → rows, and those of them with a label."""
        return coverage_by_predicted(self.predicted, has_label(self.label))


def label_delay_s(time_ns: Array, label_time_ns: Array) -> Array:
    """Seconds from answer to label, of the rows that have one.

    Args:
        time_ns, label_time_ns: int64 (n,); -1 where no label has arrived.
    """
    came = label_time_ns >= 0
    return np.asarray(np.maximum(label_time_ns[came] - time_ns[came], 0) / 1e9)


def coverage_by_predicted(predicted: Array, labelled: Array) -> dict[int, tuple[int, int]]:
    """Predicted class → rows, and those of them with a label.

    Args:
        predicted: int (n,). labelled: bool (n,).
    """
    classes, place = np.unique(predicted, return_inverse=True)
    rows, known = np.bincount(place, minlength=len(classes)), np.bincount(place, labelled, minlength=len(classes))
    return {int(k): (int(n), int(m)) for k, n, m in zip(classes, rows, known, strict=True)}


def build(blocks: Sequence[RowBlock], labels: Iterable[LabelBlock], lo: int, hi: int, as_of_ns: int | None) -> Window:
    """Join rows and labels by (request id, row), never by order of arrival.

    Args:
        blocks: the window's rows, in order.
        labels: labels written since the window's first row or before, in order of arrival.
        as_of_ns: labels that arrived after this moment do not count; None: all count.
    """
    request_id = [value for block in blocks for value in block.request_id]
    row = _column(blocks, "row", np.int32)
    joined = _join(request_id, row, labels, as_of_ns)
    has_inputs, inputs = _inputs(blocks)
    return Window(
        request_id=np.array(request_id, object),
        row=row,
        time_ns=_column(blocks, "time_ns", np.int64),
        version=np.array([value for block in blocks for value in block.version], object),
        predicted=_column(blocks, "predicted", np.int32),
        confidence=_column(blocks, "confidence", np.float64),
        output=_output(blocks),
        inputs=inputs,
        label=joined.label,
        status=_column(blocks, "status", np.int32),
        lo=lo,
        hi=hi,
        labelled=int(has_label(joined.label).sum()),
        duplicates=joined.duplicates,
        unknown_labels=joined.unknown,
        errors=dict(Counter(value for block in blocks for value in block.error if value is not None)),
        latency_ms=_column(blocks, "latency_ms", np.float64),
        has_inputs=has_inputs,
        label_time_ns=joined.time_ns,
        labels_as_of_ns=joined.last_ns,
        error=np.array([value for block in blocks for value in block.error], object),
    )


def has_label(label: Array) -> Array:
    """Which rows of a window's `label` have one, bool (n,)."""
    return np.isfinite(label) if label.dtype.kind == "f" else label != NO_LABEL


@dataclass(frozen=True)
class _Joined:
    """Label and its time of arrival for each row; how many were replaced or fit no row; when the last one came."""

    label: Array
    time_ns: Array
    duplicates: int
    unknown: int
    last_ns: int


def _join(request_id: Sequence[str], row: Array, labels: Iterable[LabelBlock], as_of_ns: int | None) -> _Joined:
    keys = list(zip(request_id, row.tolist(), strict=True))
    wanted = set(keys)
    latest: dict[tuple[str, int], tuple[int | float, int]] = {}
    duplicates = unknown = last_ns = 0
    for block in labels:
        columns = (block.row.tolist(), block.label.tolist(), block.time_ns.tolist(), block.known.tolist())
        for name, index, value, time_ns, known in zip(block.request_id, *columns, strict=True):
            if as_of_ns is not None and time_ns > as_of_ns:
                continue
            if (name, index) in wanted:
                duplicates += (name, index) in latest
                latest[name, index] = (value, time_ns)
            elif not known:
                unknown += 1
            else:
                continue
            last_ns = max(last_ns, time_ns)
    numbers = any(isinstance(value, float) for value, _ in latest.values())
    absent, dtype = (np.nan, np.float64) if numbers else (NO_LABEL, np.int64)
    found = [latest.get(key, (absent, NO_LABEL)) for key in keys]
    label, time = np.array([value for value, _ in found], dtype), np.array([time for _, time in found], np.int64)
    return _Joined(label, time, duplicates, unknown, last_ns)


def _column(blocks: Sequence[RowBlock], name: str, dtype: type) -> Array:
    return np.concatenate([np.empty(0, dtype), *(getattr(block, name) for block in blocks)]).astype(dtype, copy=False)


def _output(blocks: Sequence[RowBlock]) -> Array:
    classes = max((block.output.shape[1] for block in blocks), default=0)
    whole = np.full((sum(map(len, blocks)), classes), np.nan, np.float32)
    start = 0
    for block in blocks:
        whole[start : start + len(block), : block.output.shape[1]] = block.output
        start += len(block)
    return whole


def _inputs(blocks: Sequence[RowBlock]) -> tuple[Array, dict[str, Array] | None]:
    total = sum(map(len, blocks))
    has_inputs = np.zeros(total, np.bool_)
    last = next((block.inputs for block in reversed(blocks) if block.inputs), None)
    if last is None:
        return has_inputs, None
    form = _commonest(blocks, last)
    whole = {name: _blank((total, *shape), dtype) for name, (shape, dtype) in form.items()}
    start = 0
    for block in blocks:
        if form == _form(block.inputs):
            has_inputs[start : start + len(block)] = True
            for name, values in block.inputs.items():
                whole[name][start : start + len(block)] = values
        start += len(block)
    return has_inputs, whole


def _form(inputs: Mapping[str, Array]) -> Form:
    return {name: (values.shape[1:], values.dtype) for name, values in inputs.items()}


def _commonest(blocks: Sequence[RowBlock], last: Mapping[str, Array]) -> Form:
    """The form that most rows have, of those with the names, dtypes and ranks of the last; the later of equals.

    Rows of a model with free axes come in several sizes, and the last one says nothing of the others.
    """

    def kind(form: Form) -> Any:
        return {name: (len(shape), dtype) for name, (shape, dtype) in form.items()}

    wanted, counted = kind(_form(last)), dict[Any, tuple[int, Form]]()
    for block in blocks:
        form = _form(block.inputs)
        if kind(form) == wanted:
            key = tuple((name, form[name][0]) for name in sorted(form))
            count, _ = counted.pop(key, (0, form))
            counted[key] = (count + len(block), form)
    return max(reversed(counted.values()), key=lambda one: one[0])[1]


def _blank(shape: tuple[int, ...], dtype: np.dtype) -> Array:
    return np.full(shape, np.nan, dtype) if dtype.kind == "f" else np.zeros(shape, dtype)
