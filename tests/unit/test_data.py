"""What the user's loader returned is checked at the door."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from trimtab.data import check_splits, from_arrays, load_split, make_split
from trimtab.errors import DataError
from trimtab.recipe import UserCode


def rows(n: int, start: int = 0) -> list[tuple[torch.Tensor, int]]:
    return [(torch.full((3,), float(start + i)), i % 2) for i in range(n)]


def splits(**other: list) -> dict:
    given = {"train": rows(10), "validation": rows(4, 100), "gate": rows(4, 200), **other}
    return {name: make_split(name, value) for name, value in given.items()}


def test_good_splits_pass():
    check_splits(splits())


def test_one_tensor_is_called_input_and_floats_become_float32():
    split = make_split("train", [(np.zeros(3, np.float64), 1), (np.ones(3, np.float64), 0)])
    assert {name: values.dtype for name, values in split.inputs.items()} == {"input": np.float32}


def test_named_inputs_keep_their_names_and_integer_kinds():
    split = make_split("train", [({"ids": np.zeros(2, np.int32), "mask": np.ones(2, bool)}, 0)])
    assert split.inputs["ids"].dtype == np.int64
    assert split.inputs["mask"].dtype == bool


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("nan"), "first at row 2"),
        (float("inf"), "first at row 2"),
    ],
)
def test_nan_and_infinity_are_refused_with_the_row(value, said):
    bad = rows(4)
    bad[2] = (torch.tensor([0.0, value, 0.0]), 1)
    with pytest.raises(DataError, match=said):
        make_split("train", bad)


def test_ragged_rows_are_refused():
    with pytest.raises(DataError, match="different shapes"):
        make_split("train", [(torch.zeros(3), 0), (torch.zeros(4), 1)])


def test_a_row_that_is_no_pair_is_refused():
    with pytest.raises(DataError, match="not a pair"):
        make_split("train", [torch.zeros(3)])


@pytest.mark.parametrize("label", [-1, 0.5, float("nan")])
def test_labels_that_are_no_classes_are_refused(label):
    with pytest.raises(DataError):
        make_split("train", [(torch.zeros(3), label)])


def test_one_class_only_is_refused():
    with pytest.raises(DataError, match="one class only"):
        check_splits(splits(train=[(torch.full((3,), float(i)), 1) for i in range(9)]))


def test_a_gate_row_that_was_trained_on_is_refused():
    with pytest.raises(DataError, match="1 of 4 rows are also in train"):
        check_splits(splits(gate=[*rows(3, 200), rows(1)[0]]))


def test_another_shape_in_the_gate_is_refused():
    with pytest.raises(DataError, match="gate"):
        check_splits(splits(gate=[(torch.zeros(5), 0), (torch.ones(5), 1)]))


def test_an_empty_split_is_refused(tmp_path: Path):
    (tmp_path / "net.py").write_text("def split(name):\n    return []\n")
    (tmp_path / "recipe.yaml").write_text("name: demo\nmodel: net:build\ndata: net:split\n")
    with pytest.raises(DataError, match="empty"):
        load_split(UserCode(tmp_path / "recipe.yaml"), "train")


def test_the_digest_sees_inputs_and_labels():
    inputs = {"input": np.arange(6, dtype=np.float32).reshape(3, 2)}
    base = from_arrays("train", inputs, np.array([0, 1, 0]))
    assert from_arrays("train", inputs, np.array([0, 1, 1])).digest != base.digest
    assert from_arrays("train", {"input": inputs["input"] + 1}, np.array([0, 1, 0])).digest != base.digest
    assert from_arrays("other", inputs, np.array([0, 1, 0])).digest == base.digest


def test_taking_and_joining_keep_rows_and_labels_together():
    data = TensorDataset(torch.arange(8.0).reshape(4, 2), torch.tensor([0, 1, 0, 1]))
    split = make_split("train", [data[i] for i in range(4)])
    both = split.take(np.array([3])).joined(split.take(slice(0, 1)))
    assert both.labels.tolist() == [1, 0]
    assert both.inputs["input"].tolist() == [[6.0, 7.0], [0.0, 1.0]]
    assert both.rows == (split.rows[3], split.rows[0])


def numbers(*labels: object) -> list:
    return [(torch.full((3,), float(i)), label) for i, label in enumerate(labels)]


def test_labels_of_a_regression_become_float32_of_one_column_or_k() -> None:
    one = make_split("train", numbers(1, 2.5, np.float64(3)), regression=True).labels
    two = make_split("train", numbers([1, 2.5], torch.tensor([3.0, 4.0])), regression=True).labels
    assert (one.dtype, one.tolist()) == (np.float32, [[1.0], [2.5], [3.0]])
    assert (two.dtype, two.tolist()) == (np.float32, [[1.0, 2.5], [3.0, 4.0]])


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ((1.0, float("nan"), float("inf")), "label: 2 of 3 rows hold NaN or infinity, first at row 1"),
        ((1.0, 1e300), "1 of 2 rows hold NaN or infinity"),
        ((1.0, [1.0, 2.0]), "labels have shapes"),
        (([[1.0]], [[2.0]]), "labels have shapes"),
        (("a", "b"), "are no numbers"),
    ],
)
def test_labels_that_are_no_numbers_are_refused_with_figures(labels: tuple, said: str) -> None:
    with pytest.raises(DataError, match=said):
        make_split("train", numbers(*labels), regression=True)


def test_an_output_whose_labels_do_not_vary_is_named() -> None:
    split = make_split("train", numbers([1.0, 7.0], [2.0, 7.0]), regression=True)
    with pytest.raises(DataError, match="all 2 labels of output 1 are 7"):
        check_splits({"train": split})
