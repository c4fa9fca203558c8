"""Channels last: a layout for training alone, chosen where it applies, gone from what is kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trimtab.data import Split, from_arrays
from trimtab.errors import RecipeError
from trimtab.optimize.layout import laid_out, lies_channels_last, with_channels_last
from trimtab.optimize.training import fit
from trimtab.recipe.schema import Train

IMAGES = np.random.default_rng(0).normal(size=(24, 3, 8, 8)).astype(np.float32)
CONVOLUTION = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())


def forward(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    answer: Tensor = model(inputs["input"])
    return answer


def images() -> Split:
    return from_arrays("train", {"input": IMAGES}, np.arange(24) % 2)


def lies_last(value: Tensor) -> bool:
    return value.is_contiguous(memory_format=torch.channels_last)


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 2)
        )


@pytest.mark.parametrize(
    ("inputs", "model", "expected"),
    [
        ({"input": IMAGES}, CONVOLUTION, True),
        ({"input": IMAGES, "age": IMAGES[:, 0, 0, 0]}, CONVOLUTION, True),
        ({"input": IMAGES}, nn.Flatten(), False),
        ({"input": IMAGES.astype(np.int64)}, CONVOLUTION, False),
        ({"input": IMAGES, "mask": IMAGES > 0}, CONVOLUTION, False),
        ({"input": IMAGES[:, 0]}, CONVOLUTION, False),
    ],
)
def test_auto_is_for_float_images_and_convolutions(
    inputs: dict[str, np.ndarray], model: nn.Module, expected: bool
) -> None:
    assert lies_channels_last("auto", model, inputs) is expected
    assert lies_channels_last(False, model, inputs) is False


def test_asked_for_without_images_it_is_refused() -> None:
    with pytest.raises(RecipeError, match="inputs of 4 axes"):
        lies_channels_last(True, CONVOLUTION, {"input": IMAGES[:, 0]})


def test_weights_and_images_lie_so_while_training_and_not_after() -> None:
    seen: list[tuple[bool, bool]] = []

    def noting(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        if model.training:
            lie = [
                value.is_contiguous(memory_format=torch.channels_last) for value in (inputs["input"], model[0].weight)
            ]
            seen.append((lie[0], lie[1]))
        return forward(model, inputs)

    model = network()
    fit(model, images(), images(), Train(epochs=1, batch_size=8, ema=0.5), forward=noting)
    assert seen == [(True, True)] * 3
    assert all(value.is_contiguous() for value in model.state_dict().values())


def test_the_layout_changes_speed_and_not_what_is_learnt() -> None:
    models = [network() for _ in range(2)]
    fits = [
        fit(model, images(), images(), Train(optimizer="sgd", lr=0.01, epochs=2, channels_last=wanted), forward=forward)
        for model, wanted in zip(models, (True, False), strict=True)
    ]
    assert fits[0].history[-1]["train_loss"] == pytest.approx(fits[1].history[-1]["train_loss"], rel=1e-4)
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_a_convolution_over_volumes_is_let_be_and_a_raise_restores_the_layout() -> None:
    model = nn.ModuleList([nn.Conv3d(2, 2, 3), nn.Conv2d(2, 2, 3)])

    def raising() -> None:
        with laid_out(model, channels_last=True):
            assert lies_last(model[1].weight)
            raise KeyError

    with pytest.raises(KeyError):
        raising()
    assert model[0].weight.is_contiguous()
    assert model[1].weight.is_contiguous()
    values = with_channels_last({"x": torch.zeros(2, 3, 4, 4), "y": torch.zeros(2, 3)})
    assert values["x"].stride() == (48, 1, 12, 3)
