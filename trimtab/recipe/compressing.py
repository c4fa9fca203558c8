"""The recipe's `compress` section: which candidates are made."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trimtab.recipe.section import Section

Norm = Literal["l1", "l2", "linf", "taylor", "bn_scale", "random"]
Scope = Literal["layer", "global"]
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
    scope: Scope = Field("layer", description="each group gives its own share, or the channels of all compete")
    rounds: int = Field(1, ge=1, description="steps in which a ratio is reached; channels are scored anew in each")


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
    calibration: Literal["minmax", "percentile", "entropy"] = "minmax"
    calibration_rows: int = Field(200, ge=1)
    minimum_rows: int = Field(32, ge=1, description="fewer rows than this are refused")
    per_channel: bool = True


class Shorten(Section):
    """Drop whole residual blocks, those that change the answers least; each number of blocks makes candidates."""

    blocks: list[Annotated[int, Field(ge=1)]] = Field(default_factory=lambda: [1], min_length=1)


class Cluster(Section):
    """Weight sharing: the weights of each layer become 2**bits values, stored as a codebook and packed indices."""

    bits: Literal[2, 3, 4, 5, 6, 7, 8] = 4


class Half(Section):
    """Weights stored in 16 bits (IEEE half precision); the arithmetic stays in FP32."""


class Sparsify(Section):
    """Unstructured pruning: the smallest weights are set to zero; a smaller file, no faster."""

    sparsities: list[Ratio] = Field(
        default_factory=lambda: [0.5, 0.8], min_length=1, description="shares of the weights that become zero"
    )
    scope: Scope = Field("global", description="the share of all weights together, or of each layer")


class Clip(Section):
    """Outliers among the weights are cut back to where quantizing them all loses least, before they are quantized."""

    bits: int = Field(8, ge=2, le=8, description="of the quantization that is to follow")
    per_channel: bool = Field(True, description="a range for each output channel, as the quantizer has it")


class Compress(Section):
    """Which candidates are made; null switches a method off."""

    shorten: Shorten | None = None
    prune: Prune | None = Field(default_factory=Prune)
    sparsify: Sparsify | None = None
    distil: Distil | None = Field(default_factory=Distil)
    clip: Clip | None = None
    quantize: Quantize | None = Field(default_factory=Quantize)
    cluster: Cluster | None = None
    half: Half | None = None
