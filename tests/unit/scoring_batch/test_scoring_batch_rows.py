"""Bad rows are found by halving, and what is written of each row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from batch_world import SPEC, Shares, loaded, order, rows_of
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import RecipeError
from trimtab.scoring_batch.answering import Here
from trimtab.scoring_batch.columns import Columns
from trimtab.scoring_batch.results import results
from trimtab.scoring_batch.rows import Piece, pieces

COLUMNS = Columns(("a", "b", "c"), ())


def batch_of(values: np.ndarray) -> pa.RecordBatch:
    return pa.record_batch({name: values[:, k] for k, name in enumerate("abc")})


def scored(values: np.ndarray, model: Shares | None = None) -> list[Piece]:
    answering = Here(loaded(predictor=model or Shares()))
    return list(pieces(batch_of(values), COLUMNS, SPEC, answering, lambda start, stop: f"r-{start}-{stop - start}"))


def test_a_sound_batch_is_one_piece_and_one_call() -> None:
    model = Shares()
    (piece,) = scored(rows_of(8), model)

    assert (piece.start, piece.stop, piece.request_id, model.calls) == (0, 8, "r-0-8", [8])


@given(st.integers(1, 40), st.data())
def test_every_bad_row_is_found_and_every_other_row_is_answered(count: int, data: st.DataObject) -> None:
    values = rows_of(count)
    unlucky = data.draw(st.sets(st.integers(0, count - 1)))
    missing = data.draw(st.sets(st.integers(0, count - 1)))
    values[sorted(unlucky), 0] = 13
    values[sorted(missing), 1] = np.nan

    found = scored(values)

    assert [piece.start for piece in found[1:]] == [piece.stop for piece in found[:-1]]
    assert (found[0].start, found[-1].stop) == (0, count)
    assert {piece.start for piece in found if piece.output is None} == unlucky | missing
    assert {piece.start for piece in found if piece.by_model} == unlucky - missing
    for piece in found:
        if piece.output is not None:
            rows = values[piece.start : piece.stop]
            np.testing.assert_array_equal(piece.output, rows / rows.sum(axis=1, keepdims=True))


def test_one_bad_row_of_many_costs_few_calls() -> None:
    model, values = Shares(), rows_of(1024)
    values[700, 0] = 13

    scored(values, model)

    assert len(model.calls) == 21


@pytest.mark.parametrize(
    ("row", "told", "by_model"),
    [
        ([1, np.nan, 3], "input[1]: is not a finite float32", False),
        ([13, 2, 3], "the model failed (RuntimeError: unlucky)", True),
        ([1, -1, 0], "the model's answer is not finite", True),
    ],
)
def test_why_a_row_has_no_answer_is_said_without_its_place_in_the_batch(
    row: list[float], told: str, by_model: bool
) -> None:
    values = rows_of(5)
    values[3] = row

    (bad,) = [piece for piece in scored(values) if piece.output is None]

    assert (bad.start, bad.reason, bad.by_model) == (3, told, by_model)


INPUT = pa.schema([("id", pa.int32()), ("a", pa.float32())])
ANSWERED = Piece(0, 2, "r", np.array([[0.25, 0.75], [0.5, 0.5]], np.float32))
BAD = Piece(2, 3, "s", None, "is null")


def written(facts: dict[str, Any], found: list[Piece], **options: Any) -> pa.Table:
    model = loaded(**facts)
    made = results(model, order(Path("in"), Path("out.parquet"), **options), INPUT)
    rows = found[-1].stop
    return made.table(pa.record_batch({"id": np.arange(rows, dtype=np.int32), "a": np.ones(rows, np.float32)}), found)


def test_a_classifier_writes_key_probabilities_class_and_version() -> None:
    table = written({"classes": 2}, [ANSWERED])

    assert table.schema.names == ["id", "probabilities", "predicted", "version"]
    assert table.schema.field("id").type == pa.int32()
    assert table.to_pylist()[0] == {"id": 0, "probabilities": [0.25, 0.75], "predicted": 1, "version": "3"}


def test_named_classes_are_written_by_name() -> None:
    assert written({"classes": 2, "labels": ["cat", "dog"]}, [ANSWERED])["label"].to_pylist() == ["dog", "cat"]


def test_a_bad_row_keeps_its_keys_and_has_no_answer_but_a_reason() -> None:
    table = written({"classes": 2, "labels": ["cat", "dog"]}, [ANSWERED, BAD], on_error="null")

    assert table.to_pylist()[2] == {
        "id": 2, "probabilities": None, "predicted": None, "label": None, "version": "3", "error": "is null",
    }  # fmt: skip
    assert table["error"].to_pylist()[:2] == [None, None]
    assert table["probabilities"].to_pylist()[1] == [0.5, 0.5]


def test_journalled_rows_have_the_name_that_labels_are_given_by() -> None:
    table = written({"classes": 2}, [ANSWERED, BAD], on_error="null", keep="journal")

    assert table["request_id"].to_pylist() == ["r", "r", "s"]
    assert table["row"].to_pylist() == [0, 1, 0]


@pytest.mark.parametrize(("width", "first"), [(1, 0.25), (2, [0.25, 0.75])])
def test_a_regression_writes_a_number_or_a_list_of_them(width: int, first: Any) -> None:
    found = Piece(0, 2, "r", np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)[:, :width])
    table = written({"task": "regression", "outputs": width}, [found, BAD], on_error="null")

    assert table.schema.names == ["id", "prediction", "version", "error"]
    assert table["prediction"].to_pylist()[::2] == [first, None]


def test_a_key_with_the_name_of_a_written_column_is_refused() -> None:
    schema = pa.schema([("version", pa.string())])
    with pytest.raises(RecipeError, match="version"):
        results(loaded(), order(Path("in"), Path("out.parquet"), keys=("version",)), schema)


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_rows": 0}, {"batch_rows": 65_537}, {"on_error": "skip"}, {"threads": 0}, {"keys": ("id", "id")},
        {"output": Path("out.csv")},
    ],
)  # fmt: skip
def test_an_order_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    output = wrong.pop("output", Path("out.parquet"))
    with pytest.raises(RecipeError):
        order(Path("in"), output, **wrong)
