"""What regression changes in a recipe: a default, and keys that have no meaning for it or are not there yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from trimtab.recipe.performance import misfits
from trimtab.recipe.section import Section
from trimtab.task import OF_NUMBERS

if TYPE_CHECKING:
    from trimtab.recipe.schema import Recipe


def with_defaults(given: Any) -> Any:
    """The recipe as written, with regression's own default: no search over shapes, which is of classifiers so far."""
    if not isinstance(given, Mapping) or given.get("task") != "regression":
        return given
    compress = given.get("compress")
    if compress is not None and not isinstance(compress, Mapping):
        return given  # refused as what it is
    return {**given, "compress": {"search": None, **(compress or {})}}


def refuse_misfits(recipe: Recipe) -> None:
    """Refuse keys that do not fit the recipe's task.

    Raises:
        ValueError: the first that does not, and what to do.
    """
    for wrong in _of_regression(recipe) if recipe.task == "regression" else _of_classification(recipe):
        raise ValueError(wrong)
    for wrong in misfits(recipe):
        raise ValueError(wrong)


def _of_classification(recipe: Recipe) -> Iterator[str]:
    if recipe.metric in OF_NUMBERS:
        yield f"metric: {recipe.metric} is of task: regression; give accuracy, f1, roc_auc or log_loss"
    if not recipe.purpose.by_accuracy:
        yield from _by_another_metric(recipe)
    if recipe.train.loss is not None:
        yield f"train.loss: {recipe.train.loss} is of task: regression; a classifier is trained on cross-entropy"
    if _changed(recipe.verify, "tolerance"):
        yield "verify.tolerance is of task: regression; of classes, decisions are compared"
    if recipe.serving.shadow is not None and _changed(recipe.serving.shadow, "tolerance"):
        yield "serving.shadow.tolerance is of task: regression; of classes, decisions are compared"


def _by_another_metric(recipe: Recipe) -> Iterator[str]:
    """What counts right answers, and so would work against the metric that the gate decides by."""
    quantize = recipe.compress.quantize
    if quantize is not None and quantize.max_drop is not None:
        yield "compress.quantize.max_drop is of metric: accuracy so far: leave it out; budget.max_drop decides"
    if recipe.train.search is not None:
        yield f"train.search is of metric: accuracy so far: leave it out, or {recipe.metric} as the metric"


def _of_regression(recipe: Recipe) -> Iterator[str]:
    train, compress = recipe.train, recipe.compress
    if recipe.metric not in (None, *OF_NUMBERS):
        yield f"metric: {recipe.metric} is of task: classification; give rmse, mae or r2"
    if recipe.labels is not None:
        yield "labels are names of classes; task: regression has none: leave them out"
    if train.label_smoothing:
        yield "train.label_smoothing is of task: classification: leave it out"
    if train.class_weights is not None:
        yield "train.class_weights is of task: classification: leave it out"
    if train.search is not None:
        yield "train.search is of task: classification so far: leave it out"
    if compress.search is not None:
        yield "compress.search is of task: classification so far: leave it out; every method is made at every setting"
    if compress.distil is not None and _changed(compress.distil, "temperature"):
        yield "compress.distil.temperature softens classes; task: regression has none: leave it out"
    if compress.quantize is not None and compress.quantize.max_drop is not None:
        yield "compress.quantize.max_drop is of task: classification so far: leave it out; budget.max_drop decides"
    if compress.qat is not None:
        yield "compress.qat is of task: classification so far: leave it out"
    if recipe.budget.max_calibration_rise is not None:
        yield "budget.max_calibration_rise is of task: classification: numbers come without probabilities; leave it out"
    if recipe.budget.max_slice_drop is not None and recipe.verify.slices is None:
        yield "budget.max_slice_drop needs verify.slices: task: regression has no classes to be slices"


def _changed(section: Section, key: str) -> bool:
    """Whether a key is not at its default; the template writes every default, and may be taken as it is."""
    return bool(getattr(section, key) != type(section).model_fields[key].default)
