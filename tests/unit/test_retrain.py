"""Labelled journal rows are divided by request id: the same row always falls on the same side, none on two."""

from __future__ import annotations

import numpy as np
import pytest

from trimtab.errors import DataError
from trimtab.retrain import divide, in_words, together


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


def test_new_rows_carry_their_weight_into_the_joined_splits_and_what_is_measured_carries_none():
    plain, heavy = (divide(*rows(200), 0.3, "digest", weight) for weight in (1.0, 5.0))
    assert plain.train.weights is None
    assert heavy.held_out.weights is None
    base = divide(*rows(120), 0.3, "digest").train

    joined = base.joined(heavy.train)

    assert set(joined.counted()[: len(base)]) == {1.0}
    assert set(joined.counted()[len(base) :]) == {5.0}
    assert joined.take(np.arange(len(base) - 1, len(base) + 1)).counted().tolist() == [1.0, 5.0]
    assert heavy.validation.counted().tolist() == [5.0] * len(heavy.validation)


def test_data_are_other_data_when_rows_count_otherwise_and_the_same_where_none_do():
    plain, heavy, heavier = (divide(*rows(200), 0.3, "digest", weight).train for weight in (1.0, 2.0, 3.0))
    assert plain.weighted(1.0).digest == plain.digest
    assert len({plain.digest, heavy.digest, heavier.digest}) == 3


def test_what_was_used_is_said_in_one_sentence():
    new = divide(*rows(200), 0.3, "digest", 5.0, [(0, 100), (300, 400)])
    facts = new.facts("0123456789abcdef")
    assert sum(facts["rows"].values()) == 200
    assert (
        in_words(facts)
        == f"{len(new.train)} labelled journal rows of 2 windows (rows 0–100, 300–400) joined the training data, "
        f"each with weight 5 beside 1 of a base row; {len(new.validation)} joined validation, {len(new.held_out)} were "
        "held out for the gate; training began from the weights of 0123456789ab"
    )
    assert in_words(divide(*rows(200), 0.3, "digest").facts(None)).endswith("training began from scratch")


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
