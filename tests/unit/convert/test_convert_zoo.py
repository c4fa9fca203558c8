"""Small networks of the usual kinds on every target: each answers as eager PyTorch does, at any batch size."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trimtab import runtime
from trimtab.convert import Code, convert
from trimtab.convert.graph import deployed, spec_of
from trimtab.convert.onnx_format import export_onnx
from trimtab.errors import TrimtabError
from trimtab.recipe.schema import Preprocess
from trimtab.runtime.availability import why_unavailable
from trimtab.runtime.eager import Predictor as Eager

WHY_NOT = {target: why_unavailable(target) for target in sorted(runtime.TARGETS)}
TARGETS = [
    pytest.param(target, marks=pytest.mark.skipif(bool(why), reason=f"{target}: {why}"))
    for target, why in WHY_NOT.items()
]
BATCHES = (1, 2, 3, 17)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.GRU(3, 8, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, input: Tensor) -> Tensor:
        return self.head(self.recurrent(input)[0][:, -1])


class Attention(nn.Module):
    """Two named inputs of integers: tokens, and the kind of each."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.kinds = nn.Embedding(20, 16), nn.Embedding(3, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, tokens: Tensor, kinds: Tensor) -> Tensor:
        return self.head(self.layer(self.words(tokens) + self.kinds(kinds)).mean(1))


class TwoAnswers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, input: Tensor) -> Any:
        return self.head(input), input


def cnn() -> nn.Module:
    body = [
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3),
        nn.ReLU(),
    ]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(64, 4))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.GELU(), nn.Linear(16, 4))


def inputs(kind: str, rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    if kind == "attention":
        return {"tokens": rng.integers(0, 20, (rows, 7)), "kinds": rng.integers(0, 3, (rows, 7))}
    shape = {"cnn": (1, 8, 8), "recurrent": (5, 3), "mlp": (6,), "two answers": (4,)}[kind]
    return {"input": rng.standard_normal((rows, *shape)).astype(np.float32)}


BUILD = {"cnn": cnn, "recurrent": Recurrent, "attention": Attention, "mlp": mlp, "two answers": TwoAnswers}


def code_of(kind: str) -> Code:
    """This file as the user's."""
    name = BUILD[kind].__name__
    return Code(f"{Path(__file__).stem}:{name}", {}, Path(__file__).parent, BUILD[kind])


@pytest.mark.parametrize("kind", ["cnn", "recurrent", "attention", "mlp"])
@pytest.mark.parametrize("target", TARGETS)
def test_a_network_answers_as_eager_pytorch_does(target: str, kind: str, tmp_path: Path):
    torch.manual_seed(0)
    preprocess = Preprocess() if kind == "attention" else Preprocess(scale=0.5, mean=[0.1], std=[2.0])
    module, example = deployed(BUILD[kind](), preprocess), inputs(kind, 4)
    spec = spec_of(example, 4)
    convert("c0", target, module, example, spec, tmp_path, code=code_of(kind))
    predictor, eager = runtime.load(target, tmp_path, threads=1), Eager(module, spec, threads=1)
    for rows in BATCHES:
        given = predictor.predict(inputs(kind, rows, seed=rows))["probabilities"]
        expected = eager.predict(inputs(kind, rows, seed=rows))["probabilities"]
        assert given.shape == (rows, 4)
        np.testing.assert_allclose(given, expected, atol=2e-5)
    assert Path(__file__).stem not in sys.modules or sys.modules[Path(__file__).stem].__file__ == __file__


@pytest.mark.parametrize("target", TARGETS)
def test_a_regression_answers_its_numbers_as_they_are(target: str, tmp_path: Path):
    torch.manual_seed(0)
    module, example = deployed(BUILD["mlp"](), Preprocess(), regression=True), inputs("mlp", 4)
    spec = spec_of(example, 4, "prediction")
    convert("c0", target, module, example, spec, tmp_path, code=code_of("mlp"))
    predictor, eager = runtime.load(target, tmp_path, threads=1), Eager(module, spec, threads=1)
    for rows in (1, 17):
        given = predictor.predict(inputs("mlp", rows, seed=rows))
        expected = eager.predict(inputs("mlp", rows, seed=rows))
        assert list(given) == ["prediction"]
        np.testing.assert_allclose(given["prediction"], expected["prediction"], atol=2e-5)


@pytest.mark.parametrize("target", ["onnxruntime-cpu", "openvino-cpu"])
def test_a_rewritten_graph_of_a_regression_is_carried_too(target: str, tmp_path: Path):
    module, example = deployed(BUILD["mlp"](), Preprocess(), regression=True), inputs("mlp", 4)
    export_onnx(module, example, tmp_path / "graph.onnx")
    (out := tmp_path / "out").mkdir()
    convert("c0", target, tmp_path / "graph.onnx", example, spec_of(example, 4, "prediction"), out, "int8")
    assert list(runtime.load(target, out, threads=1).predict(example)) == ["prediction"]


@pytest.mark.parametrize("target", [t for t, why in WHY_NOT.items() if not why and t != "eager-cpu"])
def test_several_outputs_are_refused_in_words(target: str, tmp_path: Path):
    example = inputs("two answers", 4)
    with pytest.raises(TrimtabError, match=r"returned tuple, not one tensor"):
        convert("c0", target, deployed(TwoAnswers(), Preprocess()), example, spec_of(example, 3), tmp_path)


@pytest.mark.skipif(not WHY_NOT["onnxruntime-cuda"], reason="there is a CUDA device: nothing to refuse")
def test_a_gpu_target_without_a_gpu_is_refused_with_the_command_before_anything_is_written(tmp_path: Path):
    example = inputs("mlp", 4)
    with pytest.raises(TrimtabError) as caught:
        convert("c0", "onnxruntime-cuda", deployed(mlp(), Preprocess()), example, spec_of(example, 4), tmp_path)
    assert "pip install onnxruntime-gpu" in caught.value.fix
    assert not list(tmp_path.iterdir())


class Signed(nn.Module):
    """Decides by values, which a trace would freeze: it has to be scripted."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 1)

    def forward(self, input: Tensor) -> Tensor:
        answer = self.head(input)
        if bool(input.sum() > 0):
            answer = answer + 10.0
        return answer


def test_a_scripted_regression_answers_its_numbers_and_no_probabilities(tmp_path: Path):
    module, example = deployed(Signed(), Preprocess(), regression=True), inputs("mlp", 4)
    spec = spec_of(example, 1, "prediction")
    convert("c0", "torchscript-cpu", module, example, spec, tmp_path)
    given = runtime.load("torchscript-cpu", tmp_path, threads=1).predict(example)["prediction"]
    np.testing.assert_allclose(given, Eager(module, spec, threads=1).predict(example)["prediction"], atol=2e-5)
