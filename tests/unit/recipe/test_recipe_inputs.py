"""`inputs` in a recipe: which axes may change, what contradicts itself, and what the data do not have."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trimtab.errors import DataError, ModelError, RecipeError, UserCodeError
from trimtab.free_axes import FreeAxis, resized, sizes_to_try, traceable
from trimtab.model_check import check_model
from trimtab.preprocess import logits
from trimtab.recipe.load import parse_recipe
from trimtab.recipe.schema import Recipe

HEAD = "name: a\nmodel: m:b\ndata: d:s\ntargets: [onnxruntime-cpu]\n"
LENGTH = "{axis: 1, name: length, min: 2, max: 12}"


def recipe(tokens: str = LENGTH, mask: str = LENGTH, head: str = HEAD) -> Recipe:
    return parse_recipe(f"{head}inputs: {{tokens: {{axes: [{tokens}]}}, mask: {{axes: [{mask}]}}}}\n")


def test_axes_are_read_by_input_and_place_and_a_recipe_without_keeps_its_identity() -> None:
    plain, said = parse_recipe(HEAD), recipe()
    assert said.axes == {name: {1: FreeAxis("length", 2, 12)} for name in ("tokens", "mask")}
    assert plain.axes == {}
    assert "inputs" not in plain.identity()
    assert "inputs" in said.identity()


@pytest.mark.parametrize(
    ("axis", "told"),
    [
        ("{axis: 0, name: length, max: 9}", r"inputs\.tokens\.axes\.0\.axis"),
        ("{axis: 1, name: batch, max: 9}", "always free"),
        ("{axis: 1, name: Länge, max: 9}", r"inputs\.tokens\.axes\.0\.name"),
        ("{axis: 1, name: length, min: 9, max: 9}", "9 is not below max: 9"),
        ("{axis: 1, name: length}", "required key is missing"),
        ("{axis: 1, name: length, max: 12, step: 2}", "unknown key"),
        ("{axis: 1, name: length, min: 2, max: 13}", "axes of one name have one size"),
        (f"{LENGTH}, {{axis: 1, name: other, max: 12}}", "one axis is named twice"),
    ],
)
def test_axes_that_cannot_be_meant_are_refused(axis: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        recipe(tokens=axis)


@pytest.mark.parametrize("target", ["litert-cpu", "executorch-cpu", "savedmodel-cpu", "onnxruntime-tensorrt"])
def test_a_target_that_cannot_hold_the_axes_is_refused_with_the_recipe(target: str) -> None:
    head = HEAD.replace("onnxruntime-cpu", f"onnxruntime-cpu, {target}")
    with pytest.raises(RecipeError, match=f"length is free, which {target} cannot hold"):
        recipe(head=head)
    parse_recipe(head)


class Bench(SimpleNamespace):
    recipe: Recipe
    outputs = 3
    task = SimpleNamespace(regression=False)

    def build(self) -> nn.Module:
        return self.model

    def forward(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        return logits(model, inputs, self.recipe.preprocess)


class Model(nn.Module):
    def __init__(self, least: int = 0) -> None:
        super().__init__()
        self.embedding, self.least, self.seen = nn.Embedding(9, 3), least, list[int]()

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        self.seen.append(tokens.shape[1])
        if tokens.shape[1] < self.least:
            raise ValueError("too short for me")
        return (self.embedding(tokens) * mask.unsqueeze(-1)).sum(1)


def bench(tokens: tuple[int, ...], mask: tuple[int, ...], model: nn.Module, of: Recipe | None = None) -> Any:
    example = {"tokens": np.ones(tokens, np.int64), "mask": np.ones(mask, bool)}
    return Bench(recipe=of or recipe(), example=example, model=model)


def test_the_model_is_asked_at_the_shortest_an_odd_and_the_longest_size() -> None:
    model = Model()
    facts = check_model(bench((4, 5), (4, 5), model))
    assert facts.output == (4, 3)
    assert model.seen == [5, 2, 7, 12, 5]  # the last in training mode


def test_a_model_that_does_not_take_every_size_is_refused_before_it_is_trained() -> None:
    with pytest.raises(UserCodeError, match=r"m:b: length 2.*too short for me") as refused:
        check_model(bench((4, 5), (4, 5), Model(least=3)))
    assert "every size that `inputs` allows" in str(refused.value)


@pytest.mark.parametrize(
    ("tokens", "mask", "told"),
    [
        ((4, 13), (4, 13), "axis 'length' of 'tokens' is 13 in the data, not 2 to 12"),
        ((4, 5), (4, 6), "axis 'length' is 5 in one input and 6 in 'mask'"),
        ((4,), (4, 6), "input 'tokens' has 1 axes with the batch, so none at 1"),
    ],
)
def test_data_that_have_not_these_axes_are_refused(tokens: Any, mask: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        check_model(bench(tokens, mask, Model()))


def test_an_input_that_the_data_do_not_have_is_refused() -> None:
    text = f"{HEAD}inputs: {{token: {{axes: [{LENGTH}]}}}}\n"
    with pytest.raises(DataError, match="no input 'token'"):
        check_model(bench((4, 5), (4, 5), Model(), parse_recipe(text)))


def test_other_sizes_are_made_of_real_rows_all_inputs_of_the_axis_alike() -> None:
    axes = recipe().axes
    rows = {"tokens": np.array([[1, 2, 3]]), "mask": np.array([[True, True, False]]), "age": np.array([[7.0]])}
    longer, shorter = resized(rows, axes, "length", 5), resized(rows, axes, "length", 2)
    assert longer["tokens"].tolist() == [[1, 2, 3, 1, 2]]
    assert longer["mask"].tolist() == [[True, True, False, True, True]]
    assert shorter["tokens"].tolist() == [[1, 2]]
    assert longer["age"].tolist() == [[7.0]]
    one = traceable({name: values[:, :1] for name, values in rows.items()}, axes)
    assert one["tokens"].shape == one["mask"].shape == (1, 2)


@pytest.mark.parametrize(
    ("axis", "held", "sizes"),
    [
        (FreeAxis("length", 1, 64), 16, {"shortest": 1, "odd": 31, "longest": 64}),
        (FreeAxis("length", 1, 64), 31, {"shortest": 1, "odd": 33, "longest": 64}),
        (FreeAxis("length", 4, 5), 4, {"shortest": 4, "longest": 5}),
        (FreeAxis("length", 2, 4), 3, {"shortest": 2, "longest": 4}),
    ],
)
def test_the_sizes_tried_are_the_ends_and_an_odd_one_that_is_not_the_datas(
    axis: FreeAxis, held: int, sizes: dict[str, int]
) -> None:
    assert sizes_to_try(axis, held) == sizes


class Auxiliary(nn.Module):
    def forward(self, input: Tensor) -> Any:
        logits = torch.stack([input.sum(1)] * 3, dim=1)
        return (logits, logits) if self.training else logits


@pytest.mark.parametrize(
    ("more", "refused"),
    [
        ("", True),  # trained, and distilled
        ("compress: {distil: null}\ntrain: {always: true}\n", True),
        ("compress: {distil: null}\n", False),
        ("compress: {distil: null, qat: {}}\n", True),
    ],
)
def test_a_model_that_answers_otherwise_in_training_is_refused_where_it_is_trained(more: str, refused: bool) -> None:
    text = f"{HEAD}{more}".replace("model: m:b", "model: {callable: m:b, weights: w.pt}")
    opened = Bench(recipe=parse_recipe(text), example={"input": np.ones((4, 6), np.float32)}, model=Auxiliary())
    with pytest.raises(ModelError, match=r"m:b: in training mode.*returned tuple") if refused else nullcontext():
        check_model(opened)


def test_a_single_input_is_asked_by_position() -> None:
    text = f"{HEAD}inputs: {{input: {{axes: [{LENGTH}]}}}}\n"

    class Sums(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.sum(1)] * 3, dim=1)

    opened = Bench(recipe=parse_recipe(text), example={"input": np.ones((4, 6), np.float32)}, model=Sums())
    assert check_model(opened).output == (4, 3)
