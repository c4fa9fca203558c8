"""Outputs beside the one that decides keep their names and shapes through compression, conversion and the gate."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tasks.evidence import _parity
from trimtab.candidate import Step
from trimtab.compress.assess import eager, open_build, parent_of
from trimtab.compress.convert_candidate import convert_candidate
from trimtab.compress.make import make
from trimtab.compress.opening import open_torch
from trimtab.compress.prune import prune
from trimtab.compress.shorten import shorten
from trimtab.convert.of_recipe import deployed_of, spec_for
from trimtab.errors import ModelError, UnsupportedError
from trimtab.model_check import check_module
from trimtab.optimize.original import make_original
from trimtab.outputs import Outputs
from trimtab.preprocess import Ask
from trimtab.recipe.schema import Preprocess
from trimtab.settings import Settings
from trimtab.workbench import Workbench

CODE = """
import numpy as np, torch
from torch import nn
from torch.utils.data import TensorDataset

def split(name):
    random = np.random.default_rng({"train": 1, "validation": 2, "gate": 3}[name])
    values = random.normal(size=(120, 4)).astype(np.float32)
    return TensorDataset(torch.from_numpy(values), torch.from_numpy((values[:, 0] > 0).astype(np.int64)))

class Net(nn.Module):
    def __init__(self, width=16, features=8):
        super().__init__()
        self.first, self.features, self.head = nn.Linear(4, width), nn.Linear(width, features), nn.Linear(features, 2)

    def forward(self, input):
        hidden = torch.relu(self.first(input))
        features = self.features(hidden)
        return {"logits": self.head(torch.relu(features)), "states": (hidden, features)}

def build(**kwargs):
    return Net(**kwargs)
"""
PRUNE = Step("prune", {"norm": "l1", "ratio": 0.5, "round_to": 1, "label": "prune"})


def workbench(folder: Path, also: str = 'embedding: "states.1"') -> Workbench:
    (folder / "kept_net.py").write_text(CODE)
    path = folder / "recipe.yaml"
    path.write_text(
        "name: a\ndata: kept_net:split\n"
        f"model: {{callable: kept_net:build, answer: logits, also: {{{also}}}}}\n"
        "train: {epochs: 4, lr: 0.01, threads: 1}\n"
        "compress: {search: null, quantize: {calibration_rows: 100, minimum_rows: 50}}\n"
    )
    return Workbench(path, Settings(home=folder / "home"))


def test_a_cut_candidate_keeps_the_shape_of_what_is_kept_and_every_build_answers_it(tmp_path: Path) -> None:
    bench = workbench(tmp_path)
    original = bench.keep(make_original(bench))
    pruned = bench.keep(make(bench, original, [PRUNE]))
    module: Any = open_torch(bench, pruned)
    assert (module.first.out_features, module.features.out_features) == (8, 8)
    rows = bench.splits["gate"].inputs
    reference = eager(bench, pruned)
    for target in ("onnxruntime-cpu", "openvino-cpu", "torchscript-cpu", "torch-export-cpu", "eager-cpu"):
        build = bench.keep_converted(convert_candidate(bench, pruned, target))
        answers = open_build(bench, build).predict(rows)
        assert answers["embedding"].shape == (120, 8)
        np.testing.assert_allclose(answers["embedding"], reference.predict(rows)["embedding"], atol=1e-4)
        parity = _parity(bench, pruned, build, open_build(bench, build), eager(bench, original), 0.95)
        (further,) = parity.further
        assert further.largest < 1e-5
        assert further.from_original is not None
        assert further.from_original > 0.01
        assert type(parity).from_json(parity.to_json()) == parity


def test_an_int8_candidate_is_compared_with_its_parent_and_the_original(tmp_path: Path) -> None:
    bench = workbench(tmp_path)
    original = bench.keep(make_original(bench))
    settings = bench.recipe.compress.quantize
    assert settings is not None
    step = Step("quantize", {**settings.model_dump(mode="json"), "label": "int8"})
    made = bench.keep(make(bench, original, [step]))
    assert parent_of(bench, made).id == original.id
    build = bench.keep_converted(convert_candidate(bench, made, "onnxruntime-cpu"))
    (further,) = _parity(bench, made, build, open_build(bench, build), eager(bench, original), 0.95).further
    assert 0 < further.mean < 0.1
    assert further.from_original == pytest.approx(further.mean)


def test_an_output_that_is_a_hidden_layer_keeps_that_layer_whole(tmp_path: Path) -> None:
    bench = workbench(tmp_path, 'hidden: "states.0", embedding: "states.1"')
    with pytest.raises(UnsupportedError, match="0 of 234 parameters removed"):
        make(bench, bench.keep(make_original(bench)), [PRUNE])


def test_without_the_graph_of_the_further_output_its_layer_would_have_been_cut(tmp_path: Path) -> None:
    bench = workbench(tmp_path)
    alone, kept = (copy.deepcopy(bench.build()) for _ in range(2))
    prune(alone, bench.example, Ask(Preprocess(), outputs=Outputs("logits")), "l1", 0.5, 1)
    prune(kept, bench.example, bench.forward, "l1", 0.5, 1)
    assert (alone.features.out_features, kept.features.out_features) == (4, 8)  # type: ignore[union-attr]


def test_a_module_of_another_width_is_refused_by_name(tmp_path: Path) -> None:
    bench = workbench(tmp_path)
    with pytest.raises(ModelError, match=r"'embedding' has the shape \['batch', 6\], and \['batch', 8\]"):
        check_module(bench, bench.build(features=6), "elsewhere")
    check_module(bench, bench.build(width=4), "elsewhere")


def test_attributions_get_the_deciding_output_alone(tmp_path: Path) -> None:
    bench = workbench(tmp_path)
    answer = deployed_of(bench, bench.build(), deciding=True)(torch.zeros(3, 4))
    assert isinstance(answer, Tensor)
    assert answer.shape == (3, 2)
    assert [one["name"] for one in spec_for(bench)["outputs"]] == ["probabilities", "embedding"]


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(torch.relu(self.one(x)))


class Deep(nn.Module):
    """Tells the width inside its first block, if that is still there."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks, self.head = nn.Sequential(Block(6), Block(6)), nn.Linear(6, 3)

    def forward(self, input: Tensor) -> dict[str, Tensor]:
        first = self.blocks[0]
        inside = first.one(input)[:, :2] if isinstance(first, Block) else input
        return {"logits": self.head(self.blocks(input)), "inside": inside}


def test_a_block_without_which_an_output_has_another_shape_is_not_dropped() -> None:
    rows = {"input": np.random.default_rng(0).standard_normal((16, 6)).astype(np.float32)}
    model = Deep().eval()
    ask = Ask(Preprocess(), outputs=Outputs("logits", {"inside": "inside"}))
    assert shorten(model, rows, ask, 1).dropped == ["blocks.1"]
    with pytest.raises(UnsupportedError, match="2 blocks cannot be dropped"):
        shorten(Deep().eval(), rows, ask, 2)
    free = Ask(Preprocess(), outputs=Outputs("logits"))
    assert len(shorten(Deep().eval(), rows, free, 2).dropped) == 2
