"""Making a candidate: what each step's parameters say is done, and zeros outlast the distillation that follows them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trimtab.candidate import Candidate, InputsDigest, Step
from trimtab.compress import make as walking
from trimtab.compress import module_steps
from trimtab.compress.make import make
from trimtab.compress.sparsify import sparsify
from trimtab.compress.weights import load_candidate
from trimtab.data import from_arrays
from trimtab.optimize.architectures.cnn import cnn
from trimtab.recipe.schema import Distil
from trimtab.remembered import Remembered
from trimtab.task import CLASSIFICATION

Make = Callable[..., tuple[nn.Module, Candidate]]


def forward(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return model(inputs["input"])


def original() -> nn.Module:
    torch.manual_seed(0)
    return cnn(1, 3, widths=(8, 16), size=8).eval()


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    rows = {"input": np.random.default_rng(0).normal(size=(48, 1, 8, 8)).astype(np.float32)}
    split = from_arrays("train", rows, np.arange(48) % 3)
    bench: Any = SimpleNamespace(
        splits={"train": split, "validation": split},
        example={name: value[:4] for name, value in rows.items()},
        forward=forward,
        folder=lambda candidate: tmp_path / candidate,
        stored=lambda candidate: None,
        recipe=SimpleNamespace(model=SimpleNamespace(augment=None)),
        task=CLASSIFICATION,
        remembered=Remembered(),
    )
    for room in (walking, module_steps):
        monkeypatch.setattr(room, "open_torch", lambda *_: original())

    def make_it(*steps: Step) -> tuple[nn.Module, Candidate]:
        candidate = make(bench, Candidate((Step("train"),), InputsDigest("d", "w", "c", "v")), steps)
        return load_candidate(original, tmp_path / candidate.id), candidate

    return make_it


def test_ratios_by_group_cut_the_named_group_alone(made: Make) -> None:
    model, candidate = made(Step("prune", {"norm": "l1", "ratios": {"4": 0.5}, "round_to": 4}))
    assert (model[0].out_channels, model[4].out_channels) == (8, 8)
    assert candidate.facts["parameters"] == sum(parameter.numel() for parameter in model.parameters())


def test_scope_and_rounds_are_heeded(made: Make) -> None:
    asked = {"norm": "l1", "ratio": 0.5, "round_to": 1, "scope": "global", "rounds": 2}
    model, candidate = made(Step("prune", asked))
    assert model[0].out_channels + model[4].out_channels == 12
    assert model[0].out_channels != 4  # or the scope made no difference
    assert candidate.facts["skipped"] == []


def test_zeros_outlast_the_distillation_that_follows(made: Make) -> None:
    distil = Step("distil", Distil(epochs=1, threads=1).model_dump(mode="json"), 0)
    model, candidate = made(Step("sparsify", {"sparsity": 0.7, "scope": "global"}), distil)
    thin = original()
    sparsify(thin, 0.7)
    for place in (0, 4, 10):
        assert torch.equal(model[place].weight == 0, thin[place].weight == 0)
        assert not torch.equal(model[place].weight, thin[place].weight)
    assert candidate.facts["sparsity"] == pytest.approx(0.7, abs=1e-3)


def test_clipped_weights_are_those_that_are_stored(made: Make) -> None:
    model, candidate = made(Step("clip", {"bits": 2, "per_channel": True}))
    assert candidate.facts["clipping"]["clipped"] > 0
    assert model[4].weight.abs().max() < original()[4].weight.abs().max()


def test_coarser_weights_are_those_that_are_stored(made: Make) -> None:
    model, candidate = made(Step("coarsen", {"bits": 3, "spared": 0.0}))
    assert candidate.facts["coarsening"]["weights"] == 1
    assert max(len(channel.unique()) for channel in model[4].weight) <= 7
