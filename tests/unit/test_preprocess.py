"""Pre-processing: the stated formula in the stated order, and which inputs it touches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from trimtab.errors import ModelError
from trimtab.preprocess import apply, logits, prepare
from trimtab.recipe.schema import Preprocess


def test_worked_example_of_the_module_docstring() -> None:
    section = Preprocess(scale=1 / 16, mean=[0.5], std=[0.25])
    assert apply(section, torch.full((1, 1, 2, 2), 12.0)).tolist() == [[[[1.0, 1.0], [1.0, 1.0]]]]


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),
    rank=st.integers(2, 4),
    scale=st.floats(0.01, 10),
    seed=st.integers(0, 99),
)
def test_equals_numpy_for_any_shape(shape: tuple[int, ...], rank: int, scale: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    shape = shape[:rank]
    values = draw.normal(size=shape).astype(np.float32)
    mean, std = draw.normal(size=shape[1]), draw.uniform(0.5, 2, size=shape[1])
    along = (1, -1) + (1,) * (rank - 2)
    expected = (values * scale - mean.reshape(along)) / std.reshape(along)
    section = Preprocess(scale=scale, mean=mean.tolist(), std=std.tolist())
    np.testing.assert_allclose(apply(section, torch.from_numpy(values)).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_identity_leaves_integers_alone() -> None:
    tokens = torch.arange(6).reshape(2, 3)
    assert apply(Preprocess(), tokens) is tokens


def test_a_single_integer_image_is_scaled_as_float32() -> None:
    out = prepare({"input": torch.full((1, 1, 2), 128)}, Preprocess(scale=1 / 256))["input"]
    assert out.dtype == torch.float32
    assert out.unique().tolist() == [0.5]


def test_indices_and_masks_beside_a_float_input_are_not_scaled() -> None:
    given_inputs = {"x": torch.ones(2, 3), "ids": torch.ones(2, 3, dtype=torch.long), "mask": torch.ones(2, 3).bool()}
    out = prepare(given_inputs, Preprocess(scale=0.5))
    assert out["x"].unique().tolist() == [0.5]
    assert out["ids"] is given_inputs["ids"]
    assert out["mask"] is given_inputs["mask"]


@pytest.mark.parametrize("key", ["mean", "std"])
def test_wrong_number_of_channels_is_named(key: str) -> None:
    with pytest.raises(ModelError, match="2 values for an input of 3 channels") as caught:
        apply(Preprocess(**{key: [1.0, 2.0]}), torch.ones(1, 3, 2))
    assert caught.value.where == f"preprocess.{key}"


def test_one_input_goes_by_position_and_several_by_keyword() -> None:
    class Two(nn.Module):
        def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            return left - right

    both = {"right": torch.ones(1, 2), "left": torch.full((1, 2), 3.0)}
    assert logits(Two(), both, Preprocess()).tolist() == [[2.0, 2.0]]
    assert logits(nn.Flatten(), {"input": torch.ones(1, 2)}, Preprocess(scale=2.0)).tolist() == [[2.0, 2.0]]


def test_an_answer_that_is_no_tensor_is_refused() -> None:
    class Pair(nn.Module):
        def forward(self, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return value, value

    with pytest.raises(ModelError, match="returned tuple"):
        logits(Pair(), {"input": torch.ones(1, 2)}, Preprocess())


def test_tracing_gives_the_same_numbers_at_another_batch() -> None:
    section = Preprocess(scale=0.5, mean=[1.0, 2.0], std=[0.5, 0.25])

    class Graph(nn.Module):
        def forward(self, value: torch.Tensor) -> torch.Tensor:
            return apply(section, value)

    traced = torch.jit.trace(Graph(), torch.ones(2, 2, 3))
    rows = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(traced(rows), apply(section, rows))
