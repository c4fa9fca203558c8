"""serving.images in a recipe: what is refused at the door, by its keys and by what the model takes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from trimtab.errors import ModelError, RecipeError
from trimtab.model_check import check_images
from trimtab.recipe.load import parse_recipe

HEAD = "name: a\nmodel: m:b\ndata: d:s\n"
GREY = f"{HEAD}serving: {{images: {{mode: L, scale: 0.0625}}}}\n"


def bench(text: str, **inputs: np.ndarray) -> Any:
    return SimpleNamespace(recipe=parse_recipe(text), example=inputs)


def test_a_recipe_says_how_images_are_read_and_one_without_keeps_its_identity():
    plain, said = parse_recipe(HEAD), parse_recipe(GREY)
    assert "images" not in plain.identity()["serving"]
    assert said.identity()["serving"]["images"] == {"mode": "L", "scale": 0.0625, "resize": False}
    assert plain.serving.images is None


@pytest.mark.parametrize("images", ["{mode: BGR}", "{scale: 0}", "{scale: .inf}", "{crop: true}"])
def test_a_recipe_with_an_impossible_rule_is_refused(images):
    with pytest.raises(RecipeError, match=r"serving\.images"):
        parse_recipe(f"{HEAD}serving: {{images: {images}}}\n")


@pytest.mark.parametrize(
    ("text", "inputs", "told"),
    [
        (GREY, {"input": np.zeros((4, 3, 8, 8), np.float32)}, "mode L"),
        (GREY, {"input": np.zeros((4, 64), np.float32)}, "the model takes (n, 64)"),
        (GREY, {"a": np.zeros((4, 1, 8, 8), np.float32), "b": np.zeros(4, np.int64)}, "takes 2"),
        (GREY, {"input": np.zeros((4, 1, 8, 8), np.int64)}, "whole numbers"),
        (GREY, {"input": np.zeros((4, 1, 8, 8), np.float32)}, None),
        (HEAD, {"input": np.zeros((4, 64), np.float32)}, None),
    ],
)
def test_images_that_are_not_what_the_model_takes_are_refused_before_training(text, inputs, told):
    if told is None:
        check_images(bench(text, **inputs))
        return
    with pytest.raises(ModelError) as caught:
        check_images(bench(text, **inputs))
    assert caught.value.where == "serving.images"
    assert told in caught.value.what
