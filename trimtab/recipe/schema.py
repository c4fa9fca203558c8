"""What a user writes. Only `name`, `model` and `data` are required; every other key has the default stated here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from trimtab.free_axes import Axes
from trimtab.outputs import Outputs
from trimtab.recipe import keeping, names
from trimtab.recipe.compressing import (
    Compress,
    Distil,
    Norm,
    Prune,
    Qat,
    Quantize,
    QuantizeOpenvino,
    ShapeSearch,
    Student,
)
from trimtab.recipe.drift import ColumnRule, Drift
from trimtab.recipe.guarding import Journalling, Tls, released
from trimtab.recipe.images import Images
from trimtab.recipe.inputs import Input, axes_in, refuse_contradictions
from trimtab.recipe.model import Convert, Model, Preprocess
from trimtab.recipe.performance import Judging
from trimtab.recipe.registry import Registering
from trimtab.recipe.retraining import Retraining
from trimtab.recipe.searching import TRAIN, Search, Values
from trimtab.recipe.section import EntryPoint, Section
from trimtab.recipe.serving import Batching, Serving
from trimtab.recipe.tasks import refuse_misfits, with_defaults
from trimtab.recipe.training import Train
from trimtab.recipe.trials import Canary, Promotion, Shadow, is_untouched
from trimtab.recipe.verifying import Budget, Explain, Measure, Verify
from trimtab.recipe.watching import Monitoring, Schedule, Window
from trimtab.targets import TARGETS
from trimtab.task import Metric, Task

if TYPE_CHECKING:
    Target = str
else:
    Target = Literal[tuple(TARGETS)]
__all__ = [
    "Batching",
    "Budget",
    "Canary",
    "ColumnRule",
    "Compress",
    "Convert",
    "Distil",
    "Drift",
    "Explain",
    "Images",
    "Input",
    "Journalling",
    "Measure",
    "Model",
    "Monitoring",
    "Norm",
    "Preprocess",
    "Promotion",
    "Prune",
    "Qat",
    "Quantize",
    "QuantizeOpenvino",
    "Recipe",
    "Registering",
    "Retraining",
    "Schedule",
    "Search",
    "Section",
    "Serving",
    "Shadow",
    "ShapeSearch",
    "Student",
    "Target",
    "Tls",
    "Train",
    "Values",
    "Verify",
    "Window",
]


def _release_name(value: Any) -> Any:
    """Says more than the pattern would, which stays for editors: which character it is, and "..", and NFC."""
    if not isinstance(value, str):
        return value
    try:
        return names.release_name(value)
    except ValueError as error:
        raise ValueError(f"it {error}; {names.ALLOWED}") from None


class Recipe(Section):
    """One model, from training to the watch."""

    name: Annotated[str, BeforeValidator(_release_name)] = Field(
        pattern=names.PATTERN, description="name of the registered model"
    )
    model: Model
    data: EntryPoint = Field(description="callable(split) -> torch Dataset of (input, label)")
    task: Literal["classification", "regression"] = Field(
        "classification", description="what labels are: class indices, or numbers, one or k a row"
    )
    metric: Metric | None = Field(
        None,
        description="what it is judged by: accuracy, f1 (macro), roc_auc or log_loss; of regression rmse, mae or r2; "
        "null: accuracy, of regression rmse",
    )
    labels: list[str] | None = Field(None, min_length=2, description="class names; metadata of the release")
    intended_use: str = ""
    inputs: dict[str, Input] = Field(default_factory=dict, description="what is free in the model's inputs, by name")
    preprocess: Preprocess = Field(default_factory=Preprocess)
    train: Train = Field(default_factory=Train)
    compress: Compress = Field(default_factory=Compress)
    targets: list[Target] = Field(["onnxruntime-cpu", "openvino-cpu", "torchscript-cpu"], min_length=1)
    convert: Convert = Field(default_factory=Convert)
    budget: Budget = Field(default_factory=Budget)
    measure: Measure = Field(default_factory=Measure)
    verify: Verify = Field(default_factory=Verify)
    serving: Serving = Field(default_factory=Serving)
    monitoring: Monitoring = Field(default_factory=Monitoring)
    registry: Registering = Field(default_factory=Registering)

    @model_validator(mode="after")
    def _own_training_has_something_to_do(self) -> Recipe:
        if self.model.train is not None and self.model.weights is not None and not self.train.always:
            raise ValueError("model.train would not run: model.weights are taken as they are; set train.always: true")
        return self

    @model_validator(mode="after")
    def _search_has_something_to_train(self) -> Recipe:
        if self.train.search is None:
            return self
        if self.model.weights is not None and not self.train.always:
            raise ValueError("train.search would not run: model.weights are taken as they are; set train.always: true")
        of_ours = [key for key in self.train.search.space if key.startswith(TRAIN)]
        if self.model.train is not None and of_ours:
            raise ValueError(f"train.search.space.{of_ours[0]} would change nothing: model.train trains in its own way")
        return self

    @model_validator(mode="after")
    def _attributions_are_taken_where_the_budget_speaks_of_them(self) -> Recipe:
        if self.budget.min_attribution_correlation is not None and self.verify.explain is None:
            raise ValueError("budget.min_attribution_correlation has nothing to hold: verify.explain is null")
        return self

    @model_validator(mode="after")
    def _coarse_weights_make_a_file_smaller(self) -> Recipe:
        able = [name for name, target in TARGETS.items() if target.ships_compressed]
        if self.compress.coarsen is not None and not set(able) & set(self.targets):
            raise ValueError(f"compress.coarsen makes no file of these targets smaller: it is for {', '.join(able)}")
        return self

    @model_validator(mode="after")
    def _axes_agree(self) -> Recipe:
        refuse_contradictions(self.inputs, self.targets)
        return self

    @model_validator(mode="after")
    def _outputs_can_be_kept(self) -> Recipe:
        keeping.refuse_unkept(self)
        return self

    @property
    def axes(self) -> Axes:
        """The axes of inputs that may change, besides the batch."""
        return axes_in(self.inputs)

    @property
    def outputs(self) -> Outputs:
        """Which of the module's outputs are meant."""
        return Outputs(self.model.answer, self.model.also)

    @property
    def purpose(self) -> Task:
        """Task and metric as one value."""
        return Task(self.task, self.metric or ("rmse" if self.task == "regression" else "accuracy"))

    def identity(self) -> dict[str, Any]:
        """The recipe as results are identified by it; without keys that came later and that it does not use.

        Of classification, that is what only regression has, and the metric where that is accuracy. A release has the
        figures of every metric; what follows from a verdict, how one is shown, and what hands may do is no part of it.
        """
        acting = {"policy", "service", "alerts", "sweep", "mode", "report"}
        later = {key for key in ("drift", "descriptors", "retraining") if is_untouched(self.monitoring, key)}
        watching: dict[str, Any] = {"monitoring": acting | later | set(Judging.model_fields)}
        only_regression: dict[str, Any] = {"metric": True, "train": {"loss"}, "verify": {"tolerance"}}
        unused: dict[str, Any] = {"registry": True} | ({} if self.inputs else {"inputs": True})
        if self.budget.max_output_difference is None:
            unused["budget"] = {"max_output_difference"}
        if self.compress.coarsen is None:
            unused["compress"] = {"coarsen"}
        if not self.purpose.by_accuracy:
            del only_regression["metric"]
        excluded = watching | unused | ({} if self.purpose.regression else only_regression)
        given = self.model_dump(mode="json", exclude=excluded)
        return {**given, "model": self.model.identity(), "serving": released(self.serving)}

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_task(cls, given: Any) -> Any:
        return with_defaults(given)

    @model_validator(mode="after")
    def _keys_fit_the_task(self) -> Recipe:
        refuse_misfits(self)
        return self

    @field_validator("model", mode="before")
    @classmethod
    def _short_model(cls, value: Any) -> Any:
        return {"callable": value} if isinstance(value, str) else value
