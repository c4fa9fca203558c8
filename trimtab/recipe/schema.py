"""What a user writes. Only `name`, `model` and `data` are required; every other key has the default stated here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

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
from trimtab.recipe.drift import ColumnRule, Drift, OwnEntry, OwnName
from trimtab.recipe.guarding import Journalling, Tls, released
from trimtab.recipe.images import Images
from trimtab.recipe.inputs import Input, axes_in, refuse_contradictions
from trimtab.recipe.performance import Judging
from trimtab.recipe.policy import Alerts, Mode, Policy, Service, cooldown_moved
from trimtab.recipe.registry import Registering
from trimtab.recipe.retraining import Retraining
from trimtab.recipe.searching import TRAIN, Search, Values
from trimtab.recipe.section import Section
from trimtab.recipe.serving import Batching, Serving
from trimtab.recipe.tasks import refuse_misfits, with_defaults
from trimtab.recipe.training import Train
from trimtab.recipe.trials import Canary, Promotion, Shadow, is_untouched
from trimtab.targets import TARGETS
from trimtab.task import Metric, Task

EntryPoint = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", description="module:callable")]
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


class Model(Section):
    """The user's model: a callable that returns an `nn.Module` whose forward gives logits (n, classes)."""

    callable: EntryPoint
    kwargs: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the callable")
    train: EntryPoint | None = Field(
        None, description="your own training: callable(model, train, validation) -> None or the module"
    )
    augment: EntryPoint | None = Field(
        None,
        description="callable(inputs, generator) -> inputs: changes each training batch, before preprocess",
    )
    weights: str | None = Field(
        None, description=".safetensors, or a state dict read with weights_only; relative to the recipe"
    )
    answer: keeping.Path | None = Field(
        None, description="where in what forward returns the logits or numbers are, e.g. logits or 0; null: all of it"
    )
    also: dict[keeping.OutputName, keeping.Path] = Field(
        default_factory=dict, description="further outputs of the release, name: path, e.g. embedding: hidden.0"
    )

    @model_validator(mode="after")
    def _outputs_have_names_of_their_own(self) -> Model:
        keeping.refuse_names(self.answer, self.also)
        return self

    def identity(self) -> dict[str, Any]:
        """As candidates are identified by it: without keys that came later and that it does not use."""
        return self.model_dump(exclude={key for key in ("answer", "also") if not getattr(self, key)})


class Preprocess(Section):
    """Numeric pre-processing put inside the graph: (x * scale - mean) / std, mean and std a channel (axis 1)."""

    scale: float = 1.0
    mean: list[float] | None = None
    std: list[Annotated[float, Field(gt=0)]] | None = None


class Convert(Section):
    """How the formats are written."""

    opset: int | None = Field(
        None, ge=18, le=24, description="ONNX operator set of the exported graph; null: the exporter's own"
    )


class Budget(Section):
    """What the user accepts. Accuracy is decided by the interval, not the point."""

    max_drop: float = Field(
        0.03,
        ge=0,
        lt=1,
        description="non-inferiority margin: lower bound of (candidate - original) >= -max_drop; of rmse and mae the "
        "relative worsening: 0.03 is an error 3 % larger",
    )
    max_slice_drop: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="the same margin for every class and every slice of verify.slices; null: they are shown only",
    )
    min_speedup: float = Field(1.0, gt=0, description="at the first batch size, against eager PyTorch, median")
    min_size_ratio: float = Field(1.0, gt=0, description="bytes of the original's FP32 weights over bytes shipped")
    max_p99_ms: float | None = Field(None, gt=0, description="at the first batch size")
    max_disagreement: float = Field(
        0.05,
        ge=0,
        le=1,
        description="share of answers that differ from the torch model: other decisions, or numbers "
        "beyond verify.tolerance",
    )
    max_output_difference: float | None = Field(
        None,
        gt=0,
        description="of each output of model.also: root mean square difference from the original's, over that of its "
        "values; null: it is shown only",
    )
    max_calibration_rise: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="upper bound of the rise of the expected calibration error, which regression has none of; null: it "
        "is shown only",
    )
    min_attribution_correlation: float | None = Field(
        None,
        gt=-1,
        lt=1,
        description="lower bound of the mean rank correlation of attributions; null: it is shown only",
    )


class Measure(Section):
    """How latency is measured: interleaved rounds with the baseline."""

    batch_sizes: list[Annotated[int, Field(ge=1)]] = Field(default_factory=lambda: [1, 32], min_length=1)
    threads: int = Field(1, ge=1)
    rounds: int = Field(9, ge=3, description="interleaved rounds at the gate")
    screening_rounds: int = Field(3, ge=3, description="the same when all builds are compared on validation")
    calls: int = Field(30, ge=1, description="timed calls a round and predictor")


class Explain(Section):
    """What answers rest on: attributions of original and candidate on the same validation rows, compared."""

    method: Literal["occlusion", "integrated_gradients"] = Field(
        "occlusion", description="integrated_gradients: of the torch module, by Captum (pip install 'trimtab[explain]')"
    )
    samples: int = Field(16, ge=2, description="validation rows")
    patch: int | None = Field(
        None, ge=1, description="side of an image's squares, in pixels; null: an eighth of its shorter side"
    )


class Verify(Section):
    """The gate: measured on the `gate` split, which nothing else ever sees."""

    confidence: float = Field(0.95, gt=0.5, lt=1)
    finalists: int = Field(3, ge=1, description="how many candidates may try the gate; intervals are corrected for it")
    also: list[str] = Field(
        default_factory=list, description="further splits the gate is measured on, e.g. a known drift"
    )
    slices: EntryPoint | None = Field(
        None, description="callable(split) -> mapping of name to bools, one a row; classes are always slices"
    )
    atol: float = Field(
        1e-4,
        gt=0,
        description="largest absolute difference of FP32 outputs from torch; of regression, as a share of their scale",
    )
    tolerance: float = Field(
        0.1,
        gt=0,
        description="of regression: a compressed answer counts as another one beyond this share of the answers' "
        "standard deviation",
    )
    explain: Explain | None = Field(default_factory=Explain)


class Schedule(Section):
    """When monitoring runs: an interval in seconds or a cron line, always with a time zone."""

    interval_s: int | None = Field(None, ge=10)
    cron: str | None = None
    timezone: str = "UTC"

    @model_validator(mode="after")
    def _one_of(self) -> Schedule:
        if (self.interval_s is None) == (self.cron is None):
            raise ValueError("give exactly one of interval_s and cron")
        if self.cron is not None and len(self.cron.split()) != 5:
            raise ValueError(f"cron: {self.cron!r} is no line of five fields (minute hour day month weekday)")
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"timezone: {self.timezone!r} is no time zone, e.g. Europe/Berlin or UTC") from None
        return self


class Window(Section):
    """A window closes after `rows` scored rows; its labels are waited for at most `label_wait_s`."""

    rows: int = Field(200, ge=30)
    min_labels: int = Field(50, ge=1, description="measured damage needs at least so many labelled rows")
    label_wait_s: float = Field(600, ge=0)


class Monitoring(Judging):
    """The watch: what a verdict is made from and what it may start."""

    schedule: Schedule = Field(default_factory=lambda: Schedule(interval_s=60, cron=None))
    window: Window = Field(default_factory=Window)
    drift_alpha: float = Field(0.01, gt=0, lt=1, description="family-wise false-alarm rate a window, over all columns")
    drift: Drift = Field(default_factory=Drift)
    descriptors: dict[OwnName, OwnEntry] = Field(
        default_factory=dict,
        description="columns of your own, name: module:callable; it gets inputs {name: rows} and gives a number a row",
    )
    report: Literal["unhealthy", "always"] = Field(
        "unhealthy", description="which windows get a page and an Evidently snapshot: those not healthy, or all"
    )
    max_damage: float = Field(
        0.05, gt=0, lt=1, description="accuracy below the verified one by more than this is damage; drops as max_drop's"
    )
    mode: Mode = Field(
        "act", description="propose: a reaction waits for a click in the Prefect UI; observe: it is only said"
    )
    policy: Policy = Field(default_factory=Policy)
    service: Service = Field(default_factory=Service)
    alerts: Alerts = Field(default_factory=Alerts)
    sweep: Schedule = Field(
        default_factory=lambda: Schedule(interval_s=None, cron="30 3 * * *"),
        description="when what dead releases left in the registry is cleared",
    )
    holdout: float = Field(0.3, gt=0, lt=1, description="share of the journal rows kept from training on a retrain")
    retraining: Retraining = Field(default_factory=Retraining)

    @model_validator(mode="before")
    @classmethod
    def _cooldown_where_it_was(cls, given: Any) -> Any:
        return cooldown_moved(given)


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
