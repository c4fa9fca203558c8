"""Augmentation: training rows alone are changed, by the seed alone, and what does not keep their form is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from trimtab.data import Split
from trimtab.errors import ModelError, UserCodeError
from trimtab.optimize.augmenting import Augment, augment_of, check_augment, generator_for, keeping_form, probe
from trimtab.optimize.batches import Batch
from trimtab.optimize.original import make_original, planned_original
from trimtab.optimize.training import fit
from trimtab.recipe.schema import Train
from trimtab.settings import Settings
from trimtab.workbench import Workbench

Blobs = Callable[[int, int], Split]
FAR = 1000.0


def forward(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    answer: Tensor = model(inputs["input"])
    return answer


def noise(inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    return {name: value + torch.randn(value.shape, generator=generator) for name, value in inputs.items()}


def far(inputs: dict[str, Tensor], _generator: torch.Generator) -> dict[str, Tensor]:
    return {name: value.add_(FAR) for name, value in inputs.items()}  # in place


def trained(blobs: Blobs, augment: Augment | None, seed: int = 0) -> Tensor:
    model = nn.Linear(4, 3)
    nn.init.zeros_(model.weight), nn.init.zeros_(model.bias)
    fit(model, blobs(24, 0), blobs(9, 1), Train(epochs=2, seed=seed), forward=forward, augment=augment)
    return model.weight.detach()


def test_training_rows_are_augmented_and_validation_rows_never_are(blobs: Blobs) -> None:
    seen: dict[bool, list[float]] = {True: [], False: []}

    def noting(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        seen[model.training].append(float(inputs["input"].mean()))
        return forward(model, inputs)

    train, validation = blobs(24, 0), blobs(9, 1)
    before = train.digest, train.inputs["input"].copy()
    fit(nn.Linear(4, 3), train, validation, Train(epochs=2, batch_size=8), forward=noting, augment=far)
    assert len(seen[True]) == 6
    assert min(seen[True]) > FAR / 2
    assert max(seen[False]) < FAR / 2
    # A second epoch that began from augmented rows would be at twice the distance.
    assert max(seen[True]) < 1.5 * FAR
    assert np.array_equal(train.inputs["input"], before[1])


def test_the_same_seed_augments_alike_and_another_seed_otherwise(blobs: Blobs) -> None:
    assert torch.equal(trained(blobs, noise), trained(blobs, noise))
    draws = []

    def noting(inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        draws.append(torch.randn(3, generator=generator))
        return inputs

    trained(blobs, noting, seed=1), trained(blobs, noting, seed=2)
    one, again, other, _ = draws
    assert not torch.equal(one, again)
    assert not torch.equal(one, other)


def test_an_augmentation_that_changes_nothing_changes_nothing(blobs: Blobs) -> None:
    """Its draws must not shift the order of the rows or the dropout."""

    def idle(inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        torch.randn(7, generator=generator)
        return inputs

    assert torch.equal(trained(blobs, idle), trained(blobs, None))


@given(st.integers(0, 2**40))
def test_its_numbers_are_not_those_that_order_the_rows(seed: int) -> None:
    order = torch.randperm(50, generator=torch.Generator().manual_seed(seed))
    assert not torch.equal(torch.randperm(50, generator=generator_for(seed)), order)
    assert generator_for(seed).initial_seed() == generator_for(seed).initial_seed()


def test_a_loss_is_given_the_rows_the_model_saw(blobs: Blobs) -> None:
    def loss(logits: Tensor, batch: Batch) -> Tensor:
        assert torch.equal(forward(model, dict(batch.inputs)), logits)
        assert batch.inputs["input"].mean() > FAR / 2
        return nn.functional.cross_entropy(logits, batch.labels)

    model = nn.Linear(4, 3)
    fit(model, blobs(24, 0), blobs(9, 1), Train(epochs=1), forward=forward, loss=loss, augment=far)


ROWS = {"x": np.zeros((4, 3), np.float32), "i": np.zeros((4, 2), np.int64)}
WRONG: dict[str, tuple[Callable[..., Any], str]] = {
    "no dict": (lambda i, g: i["x"], "returned Tensor"),
    "an array": (lambda i, g: {**i, "x": np.zeros((4, 3))}, "not a dict of tensors"),
    "one less": (lambda i, g: {"x": i["x"]}, "i is missing"),
    "one more": (lambda i, g: {**i, "y": i["x"]}, r"y is \(4, 3\) float32, was missing"),
    "shape": (lambda i, g: {**i, "x": i["x"][:, :2]}, r"x is \(4, 2\) float32, was \(4, 3\)"),
    "rows": (lambda i, g: {**i, "x": i["x"][:2]}, r"x is \(2, 3\)"),
    "dtype": (lambda i, g: {**i, "i": i["i"].float()}, "i is .* float32, was .* int64"),
    "nan": (lambda i, g: {**i, "x": i["x"] / 0}, "x holds NaN"),
    "no seed": (
        lambda i, g: {**i, "x": torch.from_numpy(np.random.default_rng().random((4, 3), np.float32))},
        "two answers",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_keep_its_form_is_refused_by_name(case: str) -> None:
    augment, said = WRONG[case]
    with pytest.raises(ModelError, match=said) as caught:
        probe(keeping_form(augment, "net:jitter"), ROWS, "net:jitter", seed=0)
    assert "net:jitter" in str(caught.value)


def test_draws_from_the_global_generators_follow_the_seed_too() -> None:
    def jitter(inputs: dict[str, Tensor], _generator: torch.Generator) -> dict[str, Tensor]:
        shift = torch.rand(()) + float(np.random.rand())
        return {**inputs, "x": inputs["x"] + shift}

    rows = copy.deepcopy(ROWS)
    state = torch.random.get_rng_state()
    probe(keeping_form(jitter, "net:jitter"), rows, "net:jitter", seed=0)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(np.array_equal(rows[name], ROWS[name]) for name in ROWS)


CODE = """
import numpy as np, torch
from torch import nn
from torch.utils.data import TensorDataset

def split(name):
    random = np.random.default_rng({"train": 1, "validation": 2, "gate": 3}[name])
    labels = random.integers(0, 2, 40)
    return TensorDataset(torch.from_numpy(random.normal(size=(40, 4)).astype(np.float32)), torch.from_numpy(labels))

def build():
    torch.manual_seed(0)
    return nn.Linear(4, 2)

def noise(inputs, generator):
    return {"input": inputs["input"] + torch.randn(inputs["input"].shape, generator=generator)}

def same(inputs, generator):
    return inputs

def broken(inputs, generator):
    return inputs["image"]
"""


def workbench(folder: Path, augment: str | None) -> Workbench:
    folder.mkdir(exist_ok=True)
    (folder / "augmented_net.py").write_text(CODE)
    named = f", augment: augmented_net:{augment}" if augment else ""
    path = folder / "recipe.yaml"
    path.write_text(
        f"name: a\nmodel: {{callable: augmented_net:build{named}}}\ndata: augmented_net:split\ntrain: {{epochs: 2}}\n"
    )
    return Workbench(path, Settings(home=folder / "home"))


def test_the_original_is_trained_on_augmented_rows_and_the_name_is_part_of_its_identity(tmp_path: Path) -> None:
    benches = {name: workbench(tmp_path, name) for name in (None, "same", "noise")}
    made = {name: make_original(bench) for name, bench in benches.items()}
    weights = {name: candidate.files["weights.safetensors"] for name, candidate in made.items()}
    assert weights[None] == weights["same"] != weights["noise"]
    assert len({planned_original(bench, None).id for bench in benches.values()}) == 3
    assert augment_of(benches[None]) is None


def test_what_the_users_augmentation_raises_is_theirs(tmp_path: Path) -> None:
    with pytest.raises(UserCodeError, match="augmented_net:broken raised KeyError") as caught:
        check_augment(workbench(tmp_path, "broken"))
    assert 'return inputs["image"]' in caught.value.what
    assert "model.augment" in caught.value.where
