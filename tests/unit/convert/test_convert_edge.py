"""LiteRT, ExecuTorch and SavedModel: what is special to each. Left out where what it needs is not there."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trimtab import runtime
from trimtab.convert import convert
from trimtab.convert.graph import deployed, spec_of
from trimtab.errors import ConversionError, UnsupportedError
from trimtab.recipe.schema import Preprocess
from trimtab.runtime.availability import why_unavailable
from trimtab.runtime.door import InputError
from trimtab.targets import TARGETS


def needs(target: str) -> pytest.MarkDecorator:
    why = why_unavailable(target)
    return pytest.mark.skipif(bool(why), reason=f"{target}: {why}")


def floats(rows: int, *shape: int) -> dict[str, np.ndarray]:
    return {"input": np.random.default_rng(rows).standard_normal((rows, *shape)).astype(np.float32)}


class PaddedShortcut(nn.Module):
    """A shortcut that pads channels with zeros, which converters to channels last are known to get wrong."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(4, 8, 3, 2, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, input: Tensor) -> Tensor:
        shortcut = nn.functional.pad(input[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        return self.head(torch.relu(self.body(input) + shortcut).mean((2, 3)))


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, input: Tensor) -> Tensor:
        return self.head(self.embedding(input).mean(1))


class Odd(nn.Module):
    """Its determinant has no form in any of the three."""

    def forward(self, input: Tensor) -> Tensor:
        return torch.linalg.det(input.reshape(-1, 2, 2))[:, None] * input[:, :3]


def converted(target: str, model: nn.Module, example: dict[str, np.ndarray], out: Path):
    module = deployed(model, Preprocess())
    record = convert("c0", target, module, example, spec_of(example, 3), out)
    return module, runtime.load(target, out, threads=1), record


@pytest.mark.parametrize(
    "target", [pytest.param(name, marks=needs(name)) for name in ("litert-cpu", "executorch-cpu", "savedmodel-cpu")]
)
def test_padded_channels_and_any_number_of_rows_are_answered_as_torch_does(target: str, tmp_path: Path):
    module, predictor, _ = converted(target, PaddedShortcut(), floats(4, 4, 8, 8), tmp_path)
    for rows in (1, 7, 33, 64, 65, 130):  # up to, at and beyond the largest batch of the files
        inputs = floats(rows, 4, 8, 8)
        with torch.inference_mode():
            expected = module(torch.from_numpy(inputs["input"])).numpy()
        np.testing.assert_allclose(predictor.predict(inputs)["probabilities"], expected, atol=1e-5)


@pytest.mark.parametrize(
    "target", [pytest.param(name, marks=needs(name)) for name in ("litert-cpu", "executorch-cpu", "savedmodel-cpu")]
)
def test_what_cannot_be_converted_is_refused_with_the_name_of_the_operation(target: str, tmp_path: Path):
    with pytest.raises(ConversionError, match=r"(?i)det"):
        converted(target, Odd(), floats(4, 4), tmp_path)


@needs("litert-cpu")
def test_an_integer_beyond_32_bits_is_refused_by_litert_and_not_wrapped(tmp_path: Path):
    example = {"input": np.random.default_rng(0).integers(0, 10, (4, 6))}
    _, predictor, _ = converted("litert-cpu", Tokens(), example, tmp_path)
    with pytest.raises(InputError, match="does not fit in int32"):
        predictor.predict({"input": np.full((1, 6), 2**32 + 1)})


@needs("executorch-cpu")
def test_executorch_answers_the_same_after_another_predictor_resized_the_pool(tmp_path: Path):
    _, predictor, _ = converted("executorch-cpu", PaddedShortcut(), floats(4, 4, 8, 8), tmp_path)
    inputs = floats(33, 4, 8, 8)
    before = predictor.predict(inputs)["probabilities"]
    runtime.load("executorch-cpu", tmp_path, threads=2).predict(inputs)
    np.testing.assert_array_equal(predictor.predict(inputs)["probabilities"], before)


@pytest.mark.parametrize("target", ["litert-cpu", "savedmodel-cpu"])
def test_without_its_worker_environment_a_target_is_refused_with_the_command(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TRIMTAB_HOME", str(tmp_path / "home"))
    (tmp_path / "out").mkdir()
    with pytest.raises(UnsupportedError, match=r"worker environment|not installed") as raised:
        converted(target, PaddedShortcut(), floats(4, 4, 8, 8), tmp_path / "out")
    assert TARGETS[target].install in raised.value.fix
    assert f"trimtab targets --make {target}" in raised.value.fix
    assert not list((tmp_path / "out").iterdir())
    assert not (tmp_path / "home").exists()
