"""Which rows of a batch cannot be scored: halves are tried until one row is left, so that one bad row costs few calls.

Of 1,024 rows with one bad one 20 further calls are made, and the other 1,023 rows are scored as if it were not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from trimtab.errors import ProtocolError
from trimtab.scoring_batch.answering import Answering, NoAnswer
from trimtab.scoring_batch.columns import Columns, Spec, arrays

Array = np.ndarray


@dataclass(frozen=True)
class Piece:
    """Neighbouring rows of a batch that were answered in one call, or one row that could not be.

    Attributes:
        start, stop: places in the batch.
        request_id: under which they were answered.
        output: float (rows, classes) or (rows, k); None where there is no answer.
        reason: why there is none. by_model: whether the model failed on a row that was sound.
    """

    start: int
    stop: int
    request_id: str
    output: Array | None
    reason: str = ""
    by_model: bool = False


def pieces(
    batch: pa.RecordBatch, columns: Columns, spec: Spec, answering: Answering, name: Callable[[int, int], str]
) -> Iterator[Piece]:
    """The batch in order; in one piece where every row can be scored.

    Args:
        name: request id of the rows from … up to …
    """
    yield from _between(0, len(batch), batch, columns, spec, answering, name)


def _between(
    start: int,
    stop: int,
    batch: pa.RecordBatch,
    columns: Columns,
    spec: Spec,
    answering: Answering,
    name: Callable[[int, int], str],
) -> Iterator[Piece]:
    request_id = name(start, stop)
    try:
        inputs = arrays(batch.slice(start, stop - start), columns, spec)
        output = answering.answer(inputs, request_id)
    except (ProtocolError, NoAnswer) as error:
        if stop - start == 1:
            yield Piece(start, stop, request_id, None, _reason(error), isinstance(error, NoAnswer))
            return
    else:
        yield Piece(start, stop, request_id, output)
        return
    middle = (start + stop) // 2
    yield from _between(start, middle, batch, columns, spec, answering, name)
    yield from _between(middle, stop, batch, columns, spec, answering, name)


def _reason(error: ProtocolError | NoAnswer) -> str:
    """In words; the place of the row in its own batch of one is left out."""
    where = error.where.replace("[0]", "", 1)
    return f"{where}: {error.what}" if where else error.what
