"""What is written of each row: keys, answer, version, and under which name it is in the journal or why it has none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from trimtab.errors import RecipeError
from trimtab.scoring_batch.order import Order
from trimtab.scoring_batch.rows import Piece
from trimtab.serving.release import Loaded

Array = np.ndarray
PROBABILITIES, PREDICTED, LABEL, PREDICTION = "probabilities", "predicted", "label", "prediction"
VERSION, REQUEST_ID, ROW, ERROR = "version", "request_id", "row", "error"


@dataclass(frozen=True)
class Results:
    """The columns of the output.

    Attributes:
        schema: keys as in the input; then of a classifier `probabilities` (list of float32), `predicted` (class index)
            and, where the recipe names its classes, `label`; of a regression `prediction` (a float32, or a list);
            `version`; where rows are journalled `request_id` and `row`, to give labels by; and where bad rows stay,
            `error`.
        names: of the classes, or None. width: classes, or numbers a row.
    """

    schema: pa.Schema
    version: str
    regression: bool
    width: int
    names: tuple[str, ...] | None

    def table(self, keys: pa.RecordBatch, found: Iterable[Piece]) -> pa.Table:
        """The rows of one batch.

        Args:
            keys: the batch, of which the key columns are copied.
        """
        parts = list(found)
        rows = len(keys)
        output, answered = np.zeros((rows, self.width), np.float32), np.zeros(rows, np.bool_)
        ids, places, errors = [""] * rows, np.zeros(rows, np.int32), [""] * rows
        for part in parts:
            inside = slice(part.start, part.stop)
            ids[inside] = [part.request_id] * (part.stop - part.start)
            places[inside] = np.arange(part.stop - part.start)
            errors[inside] = [part.reason] * (part.stop - part.start)
            if part.output is not None:
                output[inside], answered[inside] = part.output, True
        columns: dict[str, Any] = self._answers(output, answered) | {VERSION: pa.array([self.version] * rows)}
        columns |= {REQUEST_ID: pa.array(ids), ROW: pa.array(places)}
        columns[ERROR] = pa.array([reason or None for reason in errors], pa.string())
        return pa.Table.from_arrays(
            [columns[name] if name in columns else keys.column(name) for name in self.schema.names], schema=self.schema
        )

    def _answers(self, output: Array, answered: Array) -> dict[str, pa.Array]:
        if self.regression:
            return {PREDICTION: _lists(output, answered) if self.width > 1 else pa.array(output[:, 0], mask=~answered)}
        predicted = output.argmax(axis=1)
        columns = {PROBABILITIES: _lists(output, answered), PREDICTED: pa.array(predicted, mask=~answered)}
        if self.names is not None:
            named = [self.names[index] if given else None for index, given in zip(predicted, answered, strict=True)]
            columns[LABEL] = pa.array(named, pa.string())
        return columns


def results(loaded: Loaded, order: Order, schema: pa.Schema) -> Results:
    """The output of an order.

    Args:
        schema: of the input.

    Raises:
        RecipeError: a key has the name of a column that is written.
    """
    names = loaded.facts.get("labels")
    numbers = pa.float32() if loaded.regression and loaded.classes == 1 else pa.list_(pa.float32())
    own: list[tuple[str, pa.DataType]] = [(PREDICTION if loaded.regression else PROBABILITIES, numbers)]
    if not loaded.regression:
        own += [(PREDICTED, pa.int64()), *([(LABEL, pa.string())] if names else [])]
    own.append((VERSION, pa.string()))
    if order.keep != "nothing":
        own += [(REQUEST_ID, pa.string()), (ROW, pa.int32())]
    if order.on_error == "null":
        own.append((ERROR, pa.string()))
    if clash := sorted({name for name, _ in own} & set(order.keys)):
        raise RecipeError(
            f"{clash} are columns that are written", where="--key", fix="rename them in the input, or leave them out"
        )
    fields = [*(schema.field(name) for name in order.keys), *(pa.field(name, kind) for name, kind in own)]
    labels = tuple(map(str, names)) if names else None
    return Results(pa.schema(fields), loaded.version, loaded.regression, loaded.classes, labels)


def bad_rows(found: Sequence[Piece]) -> list[Piece]:
    """Those without an answer."""
    return [piece for piece in found if piece.output is None]


def _lists(values: Array, answered: Array) -> pa.Array:
    """One list a row; null where there is no answer."""
    given = np.ascontiguousarray(values[answered], np.float32)
    ends = np.cumsum(np.where(answered, values.shape[1], 0))
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.array(given.reshape(-1)), mask=pa.array(~answered)
    )
