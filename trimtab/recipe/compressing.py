"""The recipe's `compress` section: which candidates are made."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trimtab.recipe.section import Section

Norm = Literal["l1", "l2", "linf", "taylor", "bn_scale", "random"]
Ratio = Annotated[float, Field(gt=0, lt=1)]


class Prune(Section):
    """Structured pruning: each norm at each ratio makes one candidate."""

    norms: list[Norm] = Field(
        ["l1", "l2", "linf"],
        min_length=1,
        description="what a channel weighs: a norm, first-order Taylor, batch-norm scale, or random (the control)",
    )
    ratios: list[Ratio] = Field(default_factory=lambda: [0.25, 0.5], min_length=1)
    round_to: int = Field(8, ge=1, description="channel counts are kept multiples of this where the layer allows")


class Distil(Section):
    """Knowledge distillation of each pruned candidate from its original (Hinton et al. 2015)."""

    temperature: float = Field(4.0, gt=0)
    alpha: float = Field(0.9, ge=0, le=1, description="weight of the teacher's soft targets; the rest is the label")
    epochs: int = Field(15, ge=1)
    lr: float = Field(1e-3, gt=0)
    batch_size: int = Field(32, ge=1)
    threads: int | None = Field(None, ge=1, description="torch threads; null: all cores")


class Quantize(Section):
    """INT8 quantization by ONNX Runtime: static (QDQ, calibrated on training rows) or dynamic (weights alone)."""

    mode: Literal["static", "dynamic"] = "static"
    calibration: Literal["minmax", "percentile", "entropy", "mse"] = "minmax"
    calibration_rows: int = Field(200, ge=1)
    minimum_rows: int = Field(32, ge=1, description="fewer rows than this are refused")
    per_channel: bool = True
    max_drop: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="of static: the layers that cost most stay in float until the accuracy on validation is within it",
    )

    @model_validator(mode="after")
    def _dynamic_has_no_mixed_precision(self) -> Quantize:
        if self.mode == "dynamic" and self.max_drop is not None:
            raise ValueError("max_drop is of mode static; leave it out, or set budget.max_drop")
        return self


class Shorten(Section):
    """Drop whole residual blocks, those that change the answers least; each number of blocks makes candidates."""

    blocks: list[Annotated[int, Field(ge=1)]] = Field(default_factory=lambda: [1], min_length=1)


class Cluster(Section):
    """Weight sharing: the weights of each layer become 2**bits values, stored as a codebook and packed indices."""

    bits: Literal[2, 3, 4, 5, 6, 7, 8] = 4


class Half(Section):
    """Weights stored in 16 bits (IEEE half precision); the arithmetic stays in FP32."""


class Compress(Section):
    """Which candidates are made; null switches a method off."""

    shorten: Shorten | None = None
    prune: Prune | None = Field(default_factory=Prune)
    distil: Distil | None = Field(default_factory=Distil)
    quantize: Quantize | None = Field(default_factory=Quantize)
    cluster: Cluster | None = None
    half: Half | None = None
