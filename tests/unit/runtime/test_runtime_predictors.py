"""Every runtime on the same small model: same answers, from one thread or from eight."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from trimtab import runtime
from trimtab.convert import convert
from trimtab.convert.graph import deployed, spec_of
from trimtab.recipe.schema import Preprocess
from trimtab.runtime.availability import why_unavailable
from trimtab.runtime.door import InputError
from trimtab.runtime.eager import Predictor as Eager

EXAMPLE = {"input": np.random.default_rng(0).random((4, 1, 6, 6), dtype=np.float32) * 16}
SPEC = spec_of(EXAMPLE, 3)
# Eager is not reentrant and needs the code of the model: test_convert_eager.py.
TARGETS = [target for target in sorted(runtime.TARGETS) if target != "eager-cpu" and not why_unavailable(target)]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 3)]
    return deployed(nn.Sequential(*layers), Preprocess(scale=1 / 16, mean=[0.5], std=[0.25]))


@pytest.fixture(scope="module", params=TARGETS)
def predictor(request: pytest.FixtureRequest, model: nn.Module, tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp(request.param)
    convert("c0", request.param, model, EXAMPLE, SPEC, out)
    return runtime.load(request.param, out, threads=1)


@pytest.fixture(scope="module")
def eager(model: nn.Module) -> Eager:
    return Eager(model, SPEC, threads=1)


def rows(n: int, seed: int = 1) -> dict[str, np.ndarray]:
    return {"input": np.random.default_rng(seed).random((n, 1, 6, 6), dtype=np.float32) * 16}


@pytest.mark.parametrize("batch", [1, 2, 5, 64])
def test_answers_are_those_of_eager_torch(predictor, eager: Eager, batch: int):
    given = predictor.predict(rows(batch))
    assert list(given) == ["probabilities"]
    assert given["probabilities"].dtype == np.float32
    np.testing.assert_allclose(given["probabilities"], eager.predict(rows(batch))["probabilities"], atol=1e-5)


def test_eight_threads_get_the_answers_of_one(predictor):
    assert predictor.reentrant
    asked = [rows(1 + seed % 4, seed) for seed in range(200)]
    expected = [predictor.predict(inputs)["probabilities"] for inputs in asked]
    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(lambda inputs: predictor.predict(inputs)["probabilities"], asked))
    for want, have in zip(expected, given, strict=True):
        np.testing.assert_allclose(have, want, atol=1e-6)


def test_an_answer_survives_the_next_call(predictor):
    first = predictor.predict(rows(3))["probabilities"]
    kept = first.copy()
    predictor.predict(rows(3, seed=9))
    np.testing.assert_array_equal(first, kept)


def test_inputs_are_checked_before_the_runtime_sees_them(predictor):
    with pytest.raises(InputError, match="expected float32 of shape"):
        predictor.predict({"input": np.zeros((1, 6, 6), np.float32)})


def test_read_only_and_integer_arrays_are_taken(predictor):
    pixels = np.full((2, 1, 6, 6), 8, np.uint8)
    pixels.flags.writeable = False
    floats = pixels.astype(np.float32)
    floats.flags.writeable = False
    np.testing.assert_array_equal(
        predictor.predict({"input": pixels})["probabilities"], predictor.predict({"input": floats})["probabilities"]
    )


def test_an_unknown_target_is_refused_by_name(tmp_path: Path):
    with pytest.raises(ValueError, match="unknown target 'tpu'"):
        runtime.load("tpu", tmp_path, threads=1)


def test_torch_predictors_with_other_thread_counts_set_theirs_at_each_call(model: nn.Module):
    one, two = Eager(model, SPEC, threads=1), Eager(model, SPEC, threads=2)
    before = torch.get_num_threads()
    try:
        two.predict(rows(1))
        assert torch.get_num_threads() == 2
        one.predict(rows(1))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("stem", ["onnxruntime_cpu", "openvino_cpu"])
def test_a_runtime_leaves_no_usage_record_in_the_home_folder(stem: str, tmp_path: Path):
    code = f"import trimtab.runtime.{stem}"
    ours = {"ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "CI"}  # CI would switch OpenVINO's off by itself
    environment = {key: value for key, value in os.environ.items() if key not in ours}
    subprocess.run([sys.executable, "-c", code], env={**environment, "HOME": str(tmp_path)}, check=True, timeout=120)
    assert list(tmp_path.iterdir()) == []
