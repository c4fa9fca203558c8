"""The recipe's `compress` section: which candidates are made."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from trimtab.recipe.section import Section
from trimtab.recipe.training import LAYOUT, ChannelsLast

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
    round_to: int | None = Field(
        None,
        ge=1,
        description="channel counts are kept multiples of this where the layer allows; null: 4, 8 or 16, as the search "
        "measures on the runtime; 8 without a search",
    )
    scope: Scope = Field("layer", description="each group gives its own share, or the channels of all compete")
    rounds: int = Field(1, ge=1, description="steps in which a ratio is reached; channels are scored anew in each")


class Distil(Section):
    """Knowledge distillation of each pruned candidate from its original (Hinton et al. 2015)."""

    temperature: float = Field(4.0, gt=0)
    alpha: float = Field(0.9, ge=0, le=1, description="weight of the teacher's soft targets; the rest is the label")
    hints: float = Field(
        0.0, ge=0, description="weight of the squared error between inner outputs and the original's; 0: none"
    )
    hint_layers: list[str] = Field(
        default_factory=list,
        description="modules that give hints, e.g. layer1; none: the top-level ones whose outputs keep their shape",
    )
    epochs: int = Field(15, ge=1)
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="sgd is with Nesterov's momentum")
    lr: float = Field(1e-3, gt=0)
    momentum: float | None = Field(None, ge=0, lt=1, description="of sgd only; null: 0.9")
    weight_decay: float = Field(1e-2, ge=0, description="sgd adds it to the gradient and wants less, e.g. 0.0005")
    schedule: Literal["cosine", "one_cycle"] = "cosine"
    batch_size: int = Field(32, ge=1)
    channels_last: ChannelsLast = Field("auto", description=LAYOUT)
    threads: int | None = Field(None, ge=1, description="torch threads; null: all cores")

    @model_validator(mode="after")
    def _momentum_fits_the_optimizer(self) -> Distil:
        if self.momentum is not None and self.optimizer != "sgd":
            raise ValueError(f"momentum is of optimizer: sgd, this is {self.optimizer}")
        return self

    @model_validator(mode="after")
    def _hints_have_a_weight(self) -> Distil:
        if self.hint_layers and self.hints == 0:
            raise ValueError("hint_layers has no meaning while hints is 0: give hints a weight")
        return self


class Student(Section):
    """Smaller models of the same family, distilled from the original; each set of arguments makes candidates."""

    kwargs: list[dict[str, JsonValue]] = Field(
        min_length=1, description="arguments of model.callable, merged over model.kwargs, one set a student"
    )


class Quantize(Section):
    """INT8 quantization by ONNX Runtime: static (QDQ, calibrated on training rows) or dynamic (weights alone).

    Static INT8 is also made by the quantizers of those targets' formats that have one of their own.
    """

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


class Qat(Section):
    """Quantization-aware training before `quantize`: weights are trained on while they are rounded as in its file.

    On labels, or with `distil` on the original's answers too, with its temperature and alpha. `{}` switches it on.
    """

    epochs: int = Field(5, ge=1)
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="sgd is with Nesterov's momentum")
    lr: float = Field(1e-4, gt=0, description="a small one: the network is trained already")
    weight_decay: float = Field(0.0, ge=0)
    batch_size: int = Field(32, ge=1)
    observe: float = Field(
        0.5, ge=0, le=1, description="share of the steps in which ranges of activations follow the batches"
    )
    threads: int | None = Field(None, ge=1, description="torch threads; null: all cores")


class QuantizeOpenvino(Section):
    """INT8 quantization by NNCF, of the OpenVINO model and for openvino-cpu alone; `{}` switches it on."""

    preset: Literal["mixed", "performance"] = Field(
        "mixed", description="mixed: activations with negative values asymmetric; performance: all symmetric"
    )
    calibration_rows: int = Field(300, ge=1)
    minimum_rows: int = Field(32, ge=1, description="fewer rows than this are refused")
    fast_bias_correction: bool = Field(True, description="false: the slower one, layer by layer on quantized inputs")
    ignored: list[str] = Field(
        default_factory=list, description="layers kept in float, by their name in the OpenVINO model"
    )


class Shorten(Section):
    """Drop whole residual blocks, those that change the answers least; each number of blocks makes candidates."""

    blocks: list[Annotated[int, Field(ge=1)]] = Field(default_factory=lambda: [1], min_length=1)


class Cluster(Section):
    """Weight sharing: the weights of each layer become 2**bits values, stored as a codebook and packed indices."""

    bits: Literal[2, 3, 4, 5, 6, 7, 8] = 4


class Half(Section):
    """Weights stored in 16 bits (IEEE half precision); the arithmetic stays in FP32."""


class ShapeSearch(Section):
    """Shapes are measured before they are trained, and the promising ones trained by successive halving.

    Without it (null) every method is made at every setting.
    """

    trials: int = Field(40, ge=1, description="shapes that are tried without training")
    shapes: int = Field(8, ge=1, description="shapes that are trained; half of them twice as long, and so on")
    minutes: float | None = Field(None, gt=0, description="time limit; fewer shapes are tried and epochs trained")
    drops: list[Annotated[float, Field(ge=0, lt=1)]] | None = Field(
        None, min_length=1, description="drops of accuracy for each of which the fastest is looked for; null: max_drop"
    )
    reference: Literal["original", "control"] = Field(
        "original",
        description="what a drop is counted from; control: the uncut original trained on in the same way, for when "
        "the original has seen the validation rows",
    )


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


class Coarsen(Section):
    """Each candidate in INT8 once more with fewer values among its weights, so that the compressed file is smaller.

    For openvino-cpu, whose weights are shipped compressed; it computes as fast as without. `{}` switches it on.
    """

    bits: int = Field(5, ge=2, le=7, description="weights of a channel become 2**bits - 1 evenly spaced values")
    spared: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="the smallest layers stay as they are, as many as hold no more than this share of the weights",
    )


class Compress(Section):
    """Which candidates are made; null switches a method off."""

    search: ShapeSearch | None = Field(default_factory=ShapeSearch)
    student: Student | None = None
    shorten: Shorten | None = Field(default_factory=Shorten)
    prune: Prune | None = Field(default_factory=Prune)
    sparsify: Sparsify | None = None
    distil: Distil | None = Field(default_factory=Distil)
    clip: Clip | None = None
    coarsen: Coarsen | None = None
    quantize: Quantize | None = Field(default_factory=Quantize)
    qat: Qat | None = None
    quantize_openvino: QuantizeOpenvino | None = Field(default_factory=QuantizeOpenvino)
    cluster: Cluster | None = None
    half: Half | None = None

    @model_validator(mode="after")
    def _students_are_taught(self) -> Compress:
        if self.student is not None and self.distil is None:
            raise ValueError("student needs distil: a student is random until it is distilled")
        return self

    @model_validator(mode="after")
    def _training_for_int8_ends_in_it(self) -> Compress:
        if self.qat is not None and (self.quantize is None or self.quantize.mode != "static"):
            raise ValueError("qat needs quantize in mode static: it trains for the file that quantize writes")
        return self

    @model_validator(mode="after")
    def _coarse_weights_are_quantized(self) -> Compress:
        static = self.quantize is not None and self.quantize.mode == "static"
        if self.coarsen is not None and not static and self.quantize_openvino is None:
            raise ValueError("coarsen needs static INT8: switch on quantize in mode static, or quantize_openvino")
        if self.coarsen is not None and static and self.quantize is not None and not self.quantize.per_channel:
            raise ValueError("coarsen needs quantize.per_channel: true, the values are evenly spaced within a channel")
        return self
