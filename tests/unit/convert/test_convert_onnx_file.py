"""What an ONNX file says of itself, and the operator set that was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from trimtab import __version__, runtime
from trimtab.convert import convert, onnx_format
from trimtab.convert.graph import deployed, spec_of
from trimtab.errors import ConversionError, RecipeError
from trimtab.recipe.load import parse_recipe
from trimtab.recipe.schema import Preprocess

EXAMPLE = {"input": np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)}
SPEC = spec_of(EXAMPLE, 3)


def module() -> nn.Module:
    torch.manual_seed(0)
    return deployed(nn.Sequential(nn.Linear(6, 64), nn.GELU(), nn.Linear(64, 3)), Preprocess(scale=2))


def test_the_file_names_its_writer_the_candidate_and_what_goes_in_and_out(tmp_path: Path):
    convert("candidate7", "onnxruntime-cpu", module(), EXAMPLE, SPEC, tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    assert (model.producer_name, model.producer_version) == ("trimtab", __version__)
    assert {item.key: item.value for item in model.metadata_props} == {
        "trimtab.candidate": "candidate7",
        "trimtab.precision": "fp32",
    }
    assert model.graph.input[0].doc_string == "float32 (batch, 6): raw input, before pre-processing"
    assert model.graph.output[0].doc_string == "float32 (batch, 3): probabilities, one row for each row of the inputs"


@pytest.mark.parametrize("opset", [18, 23])
def test_the_operator_set_is_the_one_asked_for(opset: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(onnx_format, "SINGLE_FILE_BYTES", 100)  # with weights in a side-file, as a model above 2 GB
    convert("c0", "onnxruntime-cpu", module(), EXAMPLE, SPEC, tmp_path, opset=opset)
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    assert {item.domain: item.version for item in model.opset_import}[""] == opset
    assert (tmp_path / "model.onnx.data").stat().st_size >= 4 * (6 * 64 + 64 * 3)
    assert runtime.load("onnxruntime-cpu", tmp_path, threads=1).predict(EXAMPLE)["probabilities"].shape == (4, 3)


def test_another_operator_set_than_asked_for_is_an_error(tmp_path: Path):
    convert("c0", "onnxruntime-cpu", module(), EXAMPLE, SPEC, tmp_path)
    with pytest.raises(ConversionError, match="wrote opset 20, not 21"):
        onnx_format._check_opset(tmp_path / "model.onnx", 21)


def test_the_recipe_takes_an_operator_set_that_was_tried_and_no_other():
    text = "name: demo\nmodel: net:build\ndata: net:split\nconvert: {opset: %d}\n"
    assert parse_recipe(text % 21, where="r").convert.opset == 21
    with pytest.raises(RecipeError, match=r"convert\.opset"):
        parse_recipe(text % 11, where="r")
