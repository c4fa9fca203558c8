"""The recipe's `train` section."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trimtab.recipe.section import Section


class Train(Section):
    """How the original is trained when it comes without weights (or when `always` is set)."""

    always: bool = Field(False, description="train even when weights are given (fine-tune)")
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop", "adagrad"] = "adamw"
    lr: float = Field(3e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    batch_size: int = Field(32, ge=1)
    epochs: int = Field(40, ge=1)
    patience: int = Field(8, ge=1, description="early stop after so many epochs without a better validation loss")
    schedule: Literal["constant", "cosine"] = "cosine"
    clip_norm: float | None = Field(1.0, gt=0)
    threads: int | None = Field(None, ge=1, description="torch threads; null: all cores")
    seed: int = Field(0, ge=0)
