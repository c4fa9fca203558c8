"""The recipe's `train` section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, model_validator

from trimtab.recipe.searching import Search, check_space
from trimtab.recipe.section import Section

SGD_MOMENTUM = 0.9
ChannelsLast = Literal["auto"] | bool
LAYOUT = "memory layout of images while training; auto: channels last where inputs are float images and layers Conv2d"
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# Typed, because YAML 1.1 reads `eps: 1e-8` as text: it becomes a number here, as in every other key.
Option = float | bool | list[float] | None


class Train(Section):
    """How the original is trained when it comes without weights (or when `always` is set)."""

    always: bool = Field(False, description="train even when weights are given (fine-tune)")
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop", "adagrad", "gd"] = Field(
        "adamw", description="gd is full-batch gradient descent: one plain step an epoch, batch_size is not used"
    )
    lr: float = Field(3e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    momentum: float | None = Field(None, ge=0, lt=1, description="of sgd only; null: 0.9")
    nesterov: bool = Field(False, description="Nesterov's momentum, of sgd only")
    optimizer_options: dict[str, Option] = Field(
        default_factory=dict, description="further arguments of the torch.optim class, e.g. {betas: [0.9, 0.95]}"
    )
    batch_size: int = Field(32, ge=1)
    accumulate: int = Field(1, ge=1, description="batches whose gradients are added up for one optimizer step")
    epochs: int = Field(40, ge=1)
    patience: int = Field(8, ge=1, description="early stop after so many epochs without a better validation loss")
    schedule: Literal["constant", "step", "cosine", "one_cycle", "plateau"] = Field(
        "cosine", description="of the rate; cosine, one_cycle and the warm-up move it with every step of the optimizer"
    )
    warmup_epochs: int = Field(
        0, ge=0, description="epochs of linear warm-up before the schedule; of one_cycle: its rise (0: 30 % of epochs)"
    )
    step_epochs: int = Field(
        5, ge=1, description="step: epochs between two steps; plateau: epochs without a better validation loss"
    )
    step_factor: float = Field(0.5, gt=0, lt=1, description="step and plateau multiply the rate by this")
    clip_norm: float | None = Field(1.0, gt=0, description="largest L2 norm of the gradient; left out with clip_value")
    clip_value: float | None = Field(None, gt=0, description="largest absolute value of each gradient element")
    loss: Literal["mse", "huber", "l1"] | None = Field(
        None, description="of regression; huber is quadratic up to an error of 1; null: mse (of classes: cross-entropy)"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    class_weights: Literal["balanced"] | list[Weight] | None = Field(
        None, description="weight of each class in the loss; balanced: rows / (classes * rows of the class)"
    )
    ema: float | None = Field(
        None, gt=0, lt=1, description="decay of a moving average of the weights, which is judged and kept; null: none"
    )
    precision: Literal["fp32", "bf16"] = Field("fp32", description="of training; weights are kept in fp32")
    channels_last: ChannelsLast = Field("auto", description=LAYOUT)
    threads: int | None = Field(None, ge=1, description="torch threads; null: all cores")
    seed: int = Field(0, ge=0)
    search: Search | None = Field(None, description="a search over these settings and the model's arguments")

    @classmethod
    def taken(cls, name: str, value: Any) -> Any:
        """What this key makes of a value, alone: 32 of "32".

        Raises:
            pydantic.ValidationError: it is not allowed.
        """
        field = cls.model_fields[name]
        adapter: TypeAdapter[Any] = TypeAdapter(Annotated[field.annotation, field])  # type: ignore[arg-type]
        return adapter.validate_python(value)

    def with_values(self, values: Mapping[str, Any]) -> Train:
        """This section with some keys set otherwise, as if it were written so, and without its search.

        Raises:
            pydantic.ValidationError: a value is not allowed, or not with the others.
        """
        return Train.model_validate({**self.model_dump(exclude_unset=True, exclude={"search"}), **values})

    @model_validator(mode="before")
    @classmethod
    def _clip_value_replaces_the_default_norm(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("clip_value") is not None and "clip_norm" not in given:
            return {**given, "clip_norm": None}
        return given

    @model_validator(mode="after")
    def _momentum_fits_the_optimizer(self) -> Train:
        if self.momentum is not None and self.optimizer != "sgd":
            hint = "; give it in optimizer_options" if self.optimizer == "rmsprop" else ""
            raise ValueError(f"momentum is of optimizer: sgd, this is {self.optimizer}{hint}")
        if self.nesterov and self.optimizer != "sgd":
            raise ValueError(f"nesterov is of optimizer: sgd, this is {self.optimizer}")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum above 0")
        return self

    @model_validator(mode="after")
    def _schedule_fits_the_epochs(self) -> Train:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs ({self.warmup_epochs}) must be below epochs ({self.epochs})")
        if self.schedule == "plateau" and self.step_epochs >= self.patience:
            raise ValueError(
                f"schedule: plateau needs step_epochs ({self.step_epochs}) below patience ({self.patience}), "
                "else training stops before the rate falls"
            )
        return self

    @model_validator(mode="after")
    def _steps_fit_each_other(self) -> Train:
        if self.clip_norm is not None and self.clip_value is not None:
            raise ValueError("clip_norm and clip_value are both set; give one, the other null")
        if self.optimizer == "gd" and self.accumulate > 1:
            raise ValueError("accumulate has no meaning with optimizer: gd, whose batch is all rows")
        clips = self.clip_norm is not None or self.clip_value is not None
        if self.precision == "bf16" and clips and self.optimizer_options.get("fused"):
            raise ValueError(
                "optimizer_options.fused cannot be combined with precision: bf16 and clipping; "
                "leave out fused, or set clip_norm and clip_value to null"
            )
        return self

    @model_validator(mode="after")
    def _search_stays_within_what_is_allowed(self) -> Train:
        if self.search is not None:
            check_space(self, self.search)
        return self
