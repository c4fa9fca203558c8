import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.runtime.door import InputError, check_inputs, load_spec


def spec(*inputs: tuple[str, str, list[Any]]) -> dict[str, Any]:
    return {
        "inputs": [{"name": name, "dtype": dtype, "shape": ["batch", *shape]} for name, dtype, shape in inputs],
        "outputs": [{"name": "probabilities", "dtype": "float32", "shape": ["batch", 3]}],
    }


IMAGE = spec(("input", "float32", [1, 2]))
PAIR = spec(("tokens", "int64", [7]), ("mask", "bool", [7]))


def test_arrays_that_fit_pass_unchanged():
    values = np.arange(6, dtype=np.float32).reshape(3, 1, 2)
    ready = check_inputs(IMAGE, {"input": values})
    assert list(ready) == ["input"]
    np.testing.assert_array_equal(ready["input"], values)


def test_missing_and_unknown_names_are_both_named():
    with pytest.raises(InputError, match=r"missing: \['mask'\].*unknown: \['masks'\].*takes \['tokens', 'mask'\]"):
        check_inputs(PAIR, {"tokens": np.zeros((1, 7), np.int64), "masks": np.zeros((1, 7), bool)})


@pytest.mark.parametrize("shape", [(2,), (2, 1), (2, 1, 3), (2, 2, 2), (2, 1, 2, 1), ()])
def test_wrong_rank_or_size_is_refused_with_both_shapes(shape: tuple[int, ...]):
    with pytest.raises(InputError) as caught:
        check_inputs(IMAGE, {"input": np.zeros(shape, np.float32)})
    assert "'input'" in str(caught.value)
    assert "float32 of shape (batch, 1, 2)" in str(caught.value)
    assert f"float32 of shape {shape}" in str(caught.value)


def test_int64_of_rank_one_for_three_int32_like_inputs_is_refused_readably():
    three = spec(*((name, "int64", [7]) for name in ("ids", "mask", "types")))
    with pytest.raises(InputError, match=r"input 'ids'.*expected int64 of shape \(batch, 7\), given int64 .*\(11,\)"):
        check_inputs(three, {name: np.zeros(11, np.int64) for name in ("ids", "mask", "types")})


def test_no_rows_are_refused():
    with pytest.raises(InputError, match="no rows"):
        check_inputs(IMAGE, {"input": np.zeros((0, 1, 2), np.float32)})


def test_inputs_of_different_batch_are_refused():
    with pytest.raises(InputError, match=r"different batch sizes: \{'tokens': 2, 'mask': 3\}"):
        check_inputs(PAIR, {"tokens": np.zeros((2, 7), np.int64), "mask": np.zeros((3, 7), bool)})


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32", "uint64", ">i4", "bool"])
def test_integers_of_another_width_are_cast_when_they_fit(dtype: str):
    ready = check_inputs(spec(("x", "int64", [])), {"x": np.array([0, 1], dtype)})
    assert ready["x"].dtype == np.int64
    assert ready["x"].tolist() == [0, 1]


def test_an_integer_that_does_not_fit_is_refused_with_its_value():
    with pytest.raises(InputError, match="18446744073709551615"):
        check_inputs(spec(("x", "int64", [])), {"x": np.array([2**64 - 1], np.uint64)})


@pytest.mark.parametrize("dtype", ["float64", "float16", ">f4", "int64", "uint8", "bool"])
def test_numbers_become_float32(dtype: str):
    ready = check_inputs(spec(("x", "float32", [])), {"x": np.array([1, 0], dtype)})
    assert ready["x"].dtype == np.dtype("=f4")
    assert ready["x"].tolist() == [1.0, 0.0]


def test_a_float_too_large_for_float32_is_refused_but_infinity_passes():
    one = spec(("x", "float32", []))
    with pytest.raises(InputError, match="too large"):
        check_inputs(one, {"x": np.array([1e300])})
    ready = check_inputs(one, {"x": np.array([np.inf, np.nan])})
    assert np.isinf(ready["x"][0])
    assert np.isnan(ready["x"][1])


@pytest.mark.parametrize("values", [np.array([1.0]), np.array(["1"]), np.array([1 + 0j]), np.array([None])])
def test_nothing_but_integers_goes_into_an_integer_input(values: np.ndarray):
    with pytest.raises(InputError, match=f"given {values.dtype}"):
        check_inputs(spec(("x", "int64", [])), {"x": values})


def test_only_zero_and_one_go_into_a_bool_input():
    one = spec(("x", "bool", []))
    assert check_inputs(one, {"x": np.array([0, 1])})["x"].tolist() == [False, True]
    with pytest.raises(InputError, match="0 and 1"):
        check_inputs(one, {"x": np.array([0, 2])})
    with pytest.raises(InputError, match="given float64"):
        check_inputs(one, {"x": np.array([0.0])})


def test_a_view_that_is_not_contiguous_is_made_so():
    values = np.zeros((2, 1, 4), np.float32)[:, :, ::2]
    assert check_inputs(IMAGE, {"input": values})["input"].flags.c_contiguous


@given(st.lists(st.integers(-(2**63), 2**64 - 1), min_size=1, max_size=5))
def test_an_integer_input_keeps_every_value_or_refuses(values: list[int]):
    array = np.array(values) if max(values) < 2**63 or min(values) >= 0 else np.array(values, object)
    try:
        ready = check_inputs(spec(("x", "int64", [])), {"x": array})
    except InputError:
        assert max(values) >= 2**63
    else:
        assert ready["x"].tolist() == values


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"inputs": [], "outputs": []},
        {"inputs": [{"name": "x", "dtype": "float16", "shape": ["batch"]}], "outputs": IMAGE["outputs"]},
        {"inputs": [{"name": "x", "dtype": "float32", "shape": [4]}], "outputs": IMAGE["outputs"]},
        {"inputs": "x", "outputs": IMAGE["outputs"]},
    ],
)
def test_a_broken_specification_is_refused(broken: dict[str, Any], tmp_path: Path):
    (tmp_path / "spec.json").write_text(json.dumps(broken))
    with pytest.raises(ValueError, match="not a model specification"):
        load_spec(tmp_path)


def test_a_specification_is_read_as_written(tmp_path: Path):
    (tmp_path / "spec.json").write_text(json.dumps(PAIR))
    assert load_spec(tmp_path) == PAIR


FREE = {**spec(("tokens", "int64", ["length"]), ("mask", "bool", ["length"])), "axes": {"length": [2, 5]}}


@pytest.mark.parametrize("length", [2, 3, 5])
def test_a_named_axis_takes_every_size_within_its_bounds(length: int):
    given = {"tokens": np.zeros((3, length), np.int64), "mask": np.zeros((3, length), bool)}
    assert check_inputs(FREE, given)["tokens"].shape == (3, length)


@pytest.mark.parametrize("length", [0, 1, 6])
def test_a_size_outside_the_bounds_is_refused_with_what_was_expected_and_given(length: int):
    given = {"tokens": np.zeros((3, length), np.int64), "mask": np.zeros((3, length), bool)}
    with pytest.raises(InputError) as caught:
        check_inputs(FREE, given)
    assert f"input 'tokens': length is {length}, and may be 2 to 5" in str(caught.value)
    assert f"expected int64 of shape (batch, length), given int64 of shape (3, {length})" in str(caught.value)


def test_two_inputs_that_disagree_about_an_axis_are_refused():
    given = {"tokens": np.zeros((3, 4), np.int64), "mask": np.zeros((3, 5), bool)}
    with pytest.raises(InputError, match="'mask': length is 5, and 4 in 'tokens'; expected one size of length"):
        check_inputs(FREE, given)


@pytest.mark.parametrize("axes", [{"length": [0, 5]}, {"length": [5, 2]}, {"length": 5}, {"length": ["a", "b"]}, []])
def test_bounds_that_are_none_are_not_a_specification(axes: Any, tmp_path: Path):
    (tmp_path / "spec.json").write_text(json.dumps({**FREE, "axes": axes}))
    with pytest.raises(ValueError, match="not a model specification"):
        load_spec(tmp_path)
