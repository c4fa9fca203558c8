"""Weights: every misfit is named, nothing is unpickled, a candidate comes back bit by bit."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from trimtab.compress.prune import prune
from trimtab.compress.weights import load_candidate, save_candidate
from trimtab.errors import ModelError
from trimtab.optimize.architectures.cnn import cnn
from trimtab.optimize.architectures.mlp import mlp
from trimtab.store import folder_digests
from trimtab.weights import load_weights


def forward(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return model(inputs["input"])


IMAGES = {"input": np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32)}


def answer(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model.eval()(torch.from_numpy(IMAGES["input"]))


@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_a_candidate_comes_back_bit_by_bit(tmp_path: Path, ratio: float) -> None:
    model = cnn(1, 10)
    history = prune(model, IMAGES, forward, "l1", ratio, 8).history
    files = save_candidate(model, history, tmp_path)
    assert files == folder_digests(tmp_path)
    assert set(files) == {"weights.safetensors", "pruning.json"}
    loaded = load_candidate(lambda: cnn(1, 10), tmp_path)
    assert torch.equal(answer(loaded), answer(model))
    assert not loaded.training


def test_the_same_candidate_has_the_same_bytes(tmp_path: Path) -> None:
    model = cnn(1, 10)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = save_candidate(model, [], tmp_path / "one")
    assert one == save_candidate(copy.deepcopy(model), [], tmp_path / "two")
    assert json.loads((tmp_path / "one" / "pruning.json").read_text()) == []


def test_tied_weights_are_kept_once_and_stay_tied(tmp_path: Path) -> None:
    def build() -> nn.Module:
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        model[1].weight = model[0].weight
        return model

    model = build()
    save_candidate(model, [], tmp_path)
    loaded = load_candidate(build, tmp_path)
    assert torch.equal(loaded[1].weight, model[0].weight)
    assert loaded[0].weight is loaded[1].weight


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_users_files_are_read(tmp_path: Path, suffix: str, nested: bool) -> None:
    source, target = mlp(4, 2), mlp(4, 2)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(source.state_dict(), path)
    else:
        torch.save({"state_dict": source.state_dict()} if nested else source.state_dict(), path)
    load_weights(target, path)
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))


def test_missing_unexpected_and_misshapen_keys_are_all_named(tmp_path: Path) -> None:
    state = mlp(4, 2).state_dict()
    state["extra"] = torch.zeros(1)
    state["1.bias"] = torch.zeros(7)
    del state["4.weight"]
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ModelError) as caught:
        load_weights(mlp(4, 2), tmp_path / "w.pt")
    assert "1 missing: 4.weight" in caught.value.what
    assert "1 unexpected: extra" in caught.value.what
    assert "1.bias is (7,), the model has (64,)" in caught.value.what


class Pickled:
    """Something that only unpickling code could bring back."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must never run",)


def test_a_file_that_needs_unpickling_is_refused_and_runs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": Pickled()}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="not a file of plain tensors"):
        load_weights(mlp(4, 2), tmp_path / "w.pt")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_damaged_and_absent_files_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="no such file"):
        load_weights(mlp(4, 2), tmp_path / name)
    (tmp_path / name).write_bytes(b"not a weight file at all")
    with pytest.raises(ModelError, match="not a file of plain tensors"):
        load_weights(mlp(4, 2), tmp_path / name)


def test_a_candidate_without_history_is_refused(tmp_path: Path) -> None:
    save_candidate(mlp(4, 2), [], tmp_path)
    (tmp_path / "pruning.json").unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        load_candidate(lambda: mlp(4, 2), tmp_path)
