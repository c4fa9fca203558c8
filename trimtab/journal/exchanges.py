"""What the service hands to the journal for a request; those written together become the columns of one block.

A request's arrays are small, and making ten of them costs more than filling them. So the caller only says what
happened, and the writer makes the columns, once for all requests whose sync it shares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import numpy as np

from trimtab.journal.rows import RowBlock, Signature

Array = np.ndarray
MOST_TOGETHER = 2**23  # bytes of a record; a reader holds one at a time
_OWN_BYTES = 256  # about what a request takes besides its arrays


@dataclass(frozen=True, slots=True, eq=False)
class Exchange:
    """One request and its answer.

    Attributes:
        count: rows of the request, n.
        time_ns: when it was answered, nanoseconds since the epoch (UTC).
        latency_ms: from the request's arrival to the model's answer.
        inputs: name → (n, ...), what is kept of them; empty for nothing.
        output: (n, C), probabilities or numbers; None where the model failed.
        error: type of the error the model failed with, None where it answered.
        regression: whether the output is numbers, of which none is a class.
    """

    request_id: str
    version: str
    count: int
    time_ns: int
    latency_ms: float
    inputs: Mapping[str, Array]
    output: Array | None
    error: str | None = None
    regression: bool = False

    @property
    def nbytes(self) -> int:
        """About how many bytes it takes in memory and in the file."""
        output = 0 if self.output is None else self.output.nbytes
        return _OWN_BYTES + output + sum(values.nbytes for values in self.inputs.values())

    @property
    def signature(self) -> tuple[Signature, bool]:
        """What exchanges must share to be in one block."""
        output = () if self.output is None else self.output.shape[1:]
        inputs = tuple((name, values.dtype.str, values.shape[1:]) for name, values in sorted(self.inputs.items()))
        return (*inputs, ("", "" if self.output is None else "<f4", output)), self.regression


def together(exchanges: Sequence[Exchange]) -> Iterator[Sequence[Exchange]]:
    """The exchanges in order, in runs that can be one block each."""
    start, size, signature = 0, 0, exchanges[0].signature
    for index, exchange in enumerate(exchanges):
        its, more = exchange.signature, exchange.nbytes
        if its != signature or (size and size + more > MOST_TOGETHER):
            yield exchanges[start:index]
            start, size, signature = index, 0, its
        size += more
    yield exchanges[start:]


def block_of(exchanges: Sequence[Exchange]) -> RowBlock:
    """The rows of exchanges of one signature, in order; offsets are zeros, the journal gives them.

    Raises:
        ValueError: they have not one signature.
    """
    counts = [exchange.count for exchange in exchanges]
    total = sum(counts)
    predicted, confidence, output = _answers(exchanges, total)
    return RowBlock(
        offset=np.zeros(total, np.int64),
        request_id=_each(counts, [exchange.request_id for exchange in exchanges]),
        row=_indices(counts, total),
        time_ns=_column(counts, [exchange.time_ns for exchange in exchanges], np.int64),
        version=_each(counts, [exchange.version for exchange in exchanges]),
        predicted=predicted,
        confidence=confidence,
        latency_ms=_column(counts, [exchange.latency_ms for exchange in exchanges], np.float64),
        status=_column(counts, [200 if one.error is None else 500 for one in exchanges], np.int32),
        error=_each(counts, [exchange.error for exchange in exchanges]),
        output=output,
        inputs={name: _joined([one.inputs[name] for one in exchanges]) for name in sorted(exchanges[0].inputs)},
    )


def _answers(exchanges: Sequence[Exchange], total: int) -> tuple[Array, Array, Array]:
    """Predicted class int32 (n,), confidence float64 (n,) and output float32 (n, C)."""
    answered = [exchange.output for exchange in exchanges if exchange.output is not None]
    unknown = np.full(total, np.nan)
    if not answered:
        return np.full(total, -1, np.int32), unknown, np.empty((total, 0), np.float32)
    output = _joined(answered)
    if exchanges[0].regression:  # there is no class; -1 would say that the model failed
        return np.zeros(total, np.int32), unknown, output.astype(np.float32, copy=False)
    predicted, confidence = output.argmax(axis=1).astype(np.int32), output.max(axis=1).astype(np.float64)
    return predicted, confidence, output.astype(np.float32, copy=False)


def _joined(arrays: Sequence[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _indices(counts: Sequence[int], total: int) -> Array:
    """0 to n - 1 of each request; most have one row, and `concatenate` of many small arrays is slow."""
    if total == len(counts):
        return np.zeros(total, np.int32)
    return np.concatenate([np.arange(count, dtype=np.int32) for count in counts])


def _column(counts: Sequence[int], values: Sequence[Any], dtype: type) -> Array:
    column: Array = np.array(values, dtype)
    return column if sum(counts) == len(counts) else np.repeat(column, counts)


def _each(counts: Sequence[int], texts: list[Any]) -> list[Any]:
    return texts if sum(counts) == len(counts) else list(chain.from_iterable(map(repeat, texts, counts)))
