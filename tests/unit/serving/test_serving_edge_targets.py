"""Releases of LiteRT, ExecuTorch and SavedModel, FP32 and INT8: packed, opened by the service, and asked over HTTP."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from serving_world import asked
from torch import nn

from trimtab import runtime
from trimtab.compress.quantize_executorch import quantize_executorch
from trimtab.compress.quantize_litert import quantize_litert
from trimtab.convert import convert
from trimtab.convert.graph import deployed, spec_of
from trimtab.recipe.schema import Preprocess, Quantize
from trimtab.registry.package import Facts, Golden, pack
from trimtab.runtime.availability import why_unavailable
from trimtab.serving.release import load_release

ROWS = {"input": np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)}
SPEC = spec_of(ROWS, 3)
BUILDS = [
    ("litert-cpu", "fp32"),
    ("litert-cpu", "int8-litert"),
    ("executorch-cpu", "fp32"),
    ("executorch-cpu", "int8-xnnpack"),
    ("savedmodel-cpu", "fp32"),
]
QUANTIZERS = {"int8-litert": quantize_litert, "int8-xnnpack": quantize_executorch}


def module() -> nn.Module:
    torch.manual_seed(0)
    return deployed(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)), Preprocess(scale=0.5))


def converted(target: str, precision: str, folder: Path) -> Path:
    """The build in a folder."""
    source: nn.Module | Path = module()
    if precision != "fp32":
        source = folder / "candidate"
        QUANTIZERS[precision](module(), ROWS, ROWS, Quantize(), source)
    out = folder / "converted"
    out.mkdir()
    convert("c0", target, source, {"input": ROWS["input"][:4]}, SPEC, out, precision)
    return out


@pytest.mark.parametrize(
    ("target", "precision"),
    [
        pytest.param(*build, marks=pytest.mark.skipif(bool(why), reason=f"{build[0]}: {why}"))
        for build in BUILDS
        for why in [why_unavailable(build[0])]
    ],
)
def test_its_release_is_opened_by_the_service_and_answers_as_the_original(
    target: str, precision: str, tmp_path: Path
) -> None:
    build = converted(target, precision, tmp_path)
    golden = runtime.load(target, build, threads=1).predict(ROWS)
    facts = Facts("edge", "c0", "edge", target, precision, 1, 3, None, {"answer": "pass"}, {"value": 0.9})
    pack(build, tmp_path / "release", facts, Golden(ROWS, golden), profile=b"{}")

    served = load_release(tmp_path / "release", "1")
    with asked(tmp_path, served) as (client, _):
        answer = client.post("/invocations", json={"inputs": {"input": ROWS["input"][:5].tolist()}})
        wrong = client.post("/invocations", json={"inputs": {"input": [[1.0, 2.0]]}})

    assert answer.status_code == 200, answer.text
    given = np.array(answer.json()["predictions"]["probabilities"], np.float32)
    with torch.inference_mode():
        expected = module()(torch.from_numpy(ROWS["input"][:5])).numpy()
    np.testing.assert_allclose(given, expected, atol=1e-5 if precision == "fp32" else 0.02)
    assert np.abs(given - expected).max() > 0 or precision == "fp32"  # integers, or it is not what was asked for
    assert wrong.status_code == 400
