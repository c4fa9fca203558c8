"""The `train` section at the door: what makes no sense is refused with the keys named."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from trimtab.recipe.schema import Train


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"optimizer": "sgd", "nesterov": True, "momentum": 0}, "nesterov needs momentum above 0"),
        ({"nesterov": True}, "nesterov is of optimizer: sgd, this is adamw"),
        ({"optimizer": "gd", "momentum": 0.5}, "momentum is of optimizer: sgd, this is gd"),
        ({"optimizer": "rmsprop", "momentum": 0.5}, "give it in optimizer_options"),
        ({"schedule": "plateau", "step_epochs": 8, "patience": 8}, r"step_epochs \(8\) below patience \(8\)"),
        ({"epochs": 5, "warmup_epochs": 5}, r"warmup_epochs \(5\) must be below epochs \(5\)"),
        ({"clip_norm": 1.0, "clip_value": 0.5}, "clip_norm and clip_value are both set"),
        ({"optimizer": "gd", "accumulate": 2}, "accumulate has no meaning with optimizer: gd"),
        ({"precision": "bf16", "optimizer_options": {"fused": True}}, "optimizer_options.fused"),
        ({"optimizer": "lion"}, "Input should be 'sgd', 'adam'"),
        ({"schedule": "cyclic"}, "'one_cycle' or 'plateau'"),
        ({"label_smoothing": 1}, "less than 1"),
        ({"ema": 1}, "less than 1"),
        ({"step_factor": 1}, "less than 1"),
        ({"class_weights": [1, 0]}, "greater than 0"),
        ({"class_weights": "even"}, "'balanced'"),
        ({"precision": "fp16"}, "'fp32' or 'bf16'"),
        ({"gradient_clip": 1}, "Extra inputs are not permitted"),
        ({"optimizer_options": {"eps": {"a": 1}}}, "valid number"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_keys(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Train.model_validate(given)


def test_clip_value_alone_takes_the_place_of_the_default_norm() -> None:
    assert Train().clip_norm == 1.0
    assert Train(clip_value=0.5).clip_norm is None


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"clip_value": 0.5},
        {"optimizer": "sgd", "nesterov": True},
        {"optimizer": "gd", "class_weights": [1, 2]},
        {"optimizer_options": {"betas": [0.8, 0.9], "fused": True}},
    ],
)
def test_a_section_survives_being_written_and_read(given: dict[str, Any]) -> None:
    section = Train.model_validate(given)
    assert Train.model_validate(section.model_dump(mode="json")) == section


def test_the_defaults_train_as_before() -> None:
    before = {"optimizer": "adamw", "lr": 3e-3, "weight_decay": 1e-2, "batch_size": 32, "epochs": 40, "patience": 8}
    off = {"accumulate": 1, "warmup_epochs": 0, "label_smoothing": 0, "class_weights": None, "ema": None}
    same = {"schedule": "cosine", "clip_norm": 1.0, "clip_value": None, "precision": "fp32", "optimizer_options": {}}
    section = Train().model_dump()
    assert {key: section[key] for key in (before | off | same)} == before | off | same
