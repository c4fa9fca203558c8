"""`compress.coarsen`: what it needs beside it, and that a recipe without it is what it was."""

from __future__ import annotations

import pytest

from trimtab.errors import RecipeError
from trimtab.recipe.load import parse_recipe

HEAD = "name: a\nmodel: m:b\ndata: d:s\n"


def test_it_is_part_of_the_identity_only_where_it_is_asked_for() -> None:
    assert "coarsen" not in parse_recipe(HEAD).identity()["compress"]
    asked = parse_recipe(f"{HEAD}compress: {{coarsen: {{bits: 4}}}}\n").identity()["compress"]["coarsen"]
    assert asked == {"bits": 4, "spared": 0.2}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("compress: {coarsen: {bits: 8}}\n", "compress.coarsen.bits"),
        ("compress: {coarsen: {}, quantize: {per_channel: false}}\n", "coarsen needs quantize.per_channel: true"),
        ("compress: {coarsen: {}, quantize: {mode: dynamic}, quantize_openvino: null}\n", "coarsen needs static INT8"),
        ("compress: {coarsen: {}, quantize: null, quantize_openvino: null}\n", "coarsen needs static INT8"),
        (
            "compress: {coarsen: {}}\ntargets: [onnxruntime-cpu]\n",
            "no file of these targets smaller: it is for openvino",
        ),
    ],
)
def test_what_does_not_fit_is_refused(more: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        parse_recipe(HEAD + more)
