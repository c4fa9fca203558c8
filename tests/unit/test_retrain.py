"""Labelled journal rows are divided by request id: the same row always falls on the same side, none on two."""

from __future__ import annotations

import numpy as np
import pytest

from trimtab.errors import DataError
from trimtab.retrain import divide, together


def rows(n: int) -> tuple[dict[str, np.ndarray], np.ndarray, list[str]]:
    values = np.arange(n, dtype=np.float32)[:, None]
    return {"input": values}, (np.arange(n) % 3).astype(np.int64), [f"request-{i}/0" for i in range(n)]


def test_every_labelled_row_is_on_one_side_and_unlabelled_ones_on_none():
    inputs, labels, ids = rows(400)
    labels[::10] = -1
    new = divide(inputs, labels, ids, 0.3, "digest")
    used = np.concatenate([part.inputs["input"][:, 0] for part in (new.train, new.validation, new.held_out)])
    assert sorted(used) == [i for i in range(400) if i % 10]
    assert 80 < len(new.held_out) < 140
    assert all(
        (part.inputs["input"][:, 0] % 3 == part.labels).all() for part in (new.train, new.validation, new.held_out)
    )


def test_more_rows_do_not_move_the_earlier_ones():
    small = divide(*rows(200), 0.3, "digest")
    large = divide(*rows(400), 0.3, "digest")
    assert set(small.held_out.rows) <= set(large.held_out.rows)
    assert not set(small.train.rows) & set(large.held_out.rows)


def test_too_few_rows_are_refused_with_the_figure():
    with pytest.raises(DataError, match="wants at least 20"):
        divide(*rows(40), 0.3, "digest")


def test_windows_are_put_together_by_the_inputs_they_share():
    some = ({"a": np.zeros((2, 3)), "b": np.zeros((2, 1))}, np.array([0, 1]), ["x", "y"])
    other = ({"a": np.ones((1, 3))}, np.array([1]), ["z"])
    inputs, labels, ids = together([some, other], "verdict 1")
    assert {name: values.shape for name, values in inputs.items()} == {"a": (3, 3)}
    assert (labels.tolist(), ids) == ([0, 1, 1], ["x", "y", "z"])


def test_windows_whose_rows_have_other_sizes_are_refused():
    parts = [({"a": np.zeros((2, size))}, np.array([0, 1]), ["x", "y"]) for size in (3, 5)]
    with pytest.raises(DataError, match=r"rows of 'a' are of the sizes \[\(3,\), \(5,\)\]"):
        together(parts, "verdict 1")
