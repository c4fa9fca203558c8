"""Eager as a release: what of the user's code goes along, what compression changed, and that releases keep apart."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from trimtab import runtime
from trimtab.compress.prune import prune
from trimtab.convert import Code, convert
from trimtab.convert.graph import deployed, spec_of
from trimtab.errors import UnsupportedError
from trimtab.recipe.schema import Preprocess
from trimtab.runtime.eager import Predictor as Eager

NET = """
from torch import nn
from parts.block import Block
import json

class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.recurrent, self.block = nn.GRU(4, width, batch_first=True), Block(width)
        self.head = nn.Linear(width, 3)

    def forward(self, input):
        if input.mean() > 0:
            return self.head(self.block(self.recurrent(input)[0][:, -1]))
        return -self.head(self.recurrent(input)[0][:, 0])

def build(width):
    return Net(width)
"""
BLOCK = "from torch import nn\n\nclass Block(nn.Linear):\n    def __init__(self, n):\n        super().__init__(n, n)\n"
EXAMPLE = {"input": np.random.default_rng(0).standard_normal((4, 5, 4)).astype(np.float32)}
SPEC = spec_of(EXAMPLE, 3)


def user(folder: Path, net: str = NET) -> Code:
    (folder / "parts").mkdir(parents=True)
    (folder / "net.py").write_text(net)
    (folder / "parts" / "__init__.py").write_text("")
    (folder / "parts" / "block.py").write_text(BLOCK)
    (folder / "secrets.py").write_text("KEY = 1\n")

    def build() -> nn.Module:
        from trimtab.runtime.eager_cpu import _built

        return _built(folder, "net:build", {"width": 8})

    return Code("net:build", {"width": 8}, folder, build)


def converted(code: Code, module: nn.Module, out: Path) -> Any:
    out.mkdir()
    convert("c0", "eager-cpu", module, EXAMPLE, SPEC, out, code=code)
    return runtime.load("eager-cpu", out, threads=1)


def same(predictor: Any, module: nn.Module) -> None:
    for rows in (EXAMPLE, {"input": -EXAMPLE["input"][:1]}, {"input": np.tile(EXAMPLE["input"], (3, 1, 1))}):
        expected = Eager(module, SPEC, threads=1).predict(rows)["probabilities"]
        np.testing.assert_allclose(predictor.predict(rows)["probabilities"], expected, atol=1e-6)


def test_a_model_no_exporter_can_hold_is_shipped_with_the_files_it_imports_and_no_others(tmp_path: Path):
    code = user(tmp_path / "user")
    module = deployed(code.build(), Preprocess(scale=0.5, mean=[0.25]))
    same(converted(code, module, tmp_path / "out"), module)
    shipped = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert shipped == {
        *("spec.json", "model.json", "weights.safetensors"),
        *("code/net.py", "code/parts/__init__.py", "code/parts/block.py"),
    }
    assert not {"net", "parts", "parts.block"} & set(sys.modules)


def test_what_compression_cut_or_dropped_is_done_again_when_it_is_loaded(tmp_path: Path):
    code = user(tmp_path / "user")
    model = code.build()
    model.recurrent = nn.GRU(4, 6, batch_first=True)  # as pruning leaves it: fewer units, the same kind of module
    model.head = nn.Linear(6, 3)
    model.set_submodule("block", nn.Identity())
    module = deployed(model, Preprocess())
    predictor = converted(code, module, tmp_path / "out")
    same(predictor, module)
    changes = json.loads((tmp_path / "out" / "model.json").read_text())["changes"]
    assert changes["block"] is None
    assert changes["recurrent"] == {"hidden_size": 6}
    assert load_file(tmp_path / "out" / "weights.safetensors")["head.weight"].shape == (3, 6)


CONV = """
from torch import nn

def build(width):
    layers = [nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU()]
    layers += [nn.Conv2d(width, width, 3, groups=width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(width, 8, 1), nn.Flatten(), nn.LayerNorm(32), nn.Linear(32, 3))
"""


def test_a_network_that_was_pruned_is_built_anew_in_its_smaller_shape(tmp_path: Path):
    code = user(tmp_path / "user", CONV)
    model = code.build().eval()
    example = {"input": np.random.default_rng(0).standard_normal((4, 1, 6, 6)).astype(np.float32)}
    prune(model, example, lambda model, inputs: model(inputs["input"]), "l2", 0.5, 1)
    assert model[0].out_channels < 8
    module, spec = deployed(model, Preprocess()), spec_of(example, 3)
    (tmp_path / "out").mkdir()
    convert("c0", "eager-cpu", module, example, spec, tmp_path / "out", code=code)
    given = runtime.load("eager-cpu", tmp_path / "out", threads=1).predict(example)["probabilities"]
    np.testing.assert_allclose(given, Eager(module, spec, threads=1).predict(example)["probabilities"], atol=1e-6)
    changes = json.loads((tmp_path / "out" / "model.json").read_text())["changes"]
    assert changes["3"]["groups"] == model[3].groups


def test_two_releases_with_modules_of_one_name_do_not_mix(tmp_path: Path):
    first, second = user(tmp_path / "a"), user(tmp_path / "b", NET.replace("return -self", "return self"))
    one, two = deployed(first.build(), Preprocess()), deployed(second.build(), Preprocess())
    loaded = converted(first, one, tmp_path / "out a"), converted(second, two, tmp_path / "out b")
    same(loaded[0], one)
    same(loaded[1], two)


def test_tied_weights_are_written_once_and_loaded_under_both_names(tmp_path: Path):
    tied = NET.replace("self.head = nn.Linear", "self.other = Block(width); self.other.weight = self.block.weight; "
                       "self.head = nn.Linear").replace("self.block(self", "self.other(self")  # fmt: skip
    code = user(tmp_path / "user", tied)
    module = deployed(code.build(), Preprocess())
    same(converted(code, module, tmp_path / "out"), module)
    weights = load_file(tmp_path / "out" / "weights.safetensors")
    assert len({"block.weight", "other.weight"} & set(weights)) == 1


@pytest.mark.parametrize(
    ("why", "message"),
    [
        ("no code", "given a module alone"),
        ("installed package", "does not lie beside the recipe"),
        ("another module", "compression put a Sequential where the code builds a Block"),
    ],
)
def test_what_a_release_could_not_build_again_is_refused(why: str, message: str, tmp_path: Path):
    code = user(tmp_path / "user")
    model = code.build()
    if why == "another module":
        model.block = nn.Sequential(nn.Linear(8, 8))
    if why == "installed package":
        code = Code("torch.nn:Linear", {}, code.folder, code.build)
    given = None if why == "no code" else code
    module = deployed(model, Preprocess())
    (tmp_path / "out").mkdir()
    with pytest.raises(UnsupportedError, match=message):
        convert("c0", "eager-cpu", module, EXAMPLE, SPEC, tmp_path / "out", code=given)


def test_weights_that_do_not_fit_the_code_are_an_error_when_it_is_loaded(tmp_path: Path):
    code = user(tmp_path / "user")
    converted(code, deployed(code.build(), Preprocess()), tmp_path / "out")
    net = tmp_path / "out" / "code" / "net.py"
    net.write_text(net.read_text().replace("self.head", "self.neck"))
    with pytest.raises(RuntimeError, match=r"head\.weight"):
        runtime.load("eager-cpu", tmp_path / "out", threads=1)
    assert torch.is_inference_mode_enabled() is False
