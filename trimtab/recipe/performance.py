"""What decides damage, whether it is estimated before labels come, and how long late labels re-open a verdict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trimtab.recipe.section import Section
from trimtab.task import OF_NUMBERS

if TYPE_CHECKING:
    from trimtab.recipe.schema import Recipe

BY_CLASS = ("precision", "recall", "f1", "specificity", "roc_auc")
DecidingMetric = Literal[
    "accuracy", "precision", "recall", "f1", "specificity", "roc_auc", "log_loss", "ece", "rmse", "mae", "r2"
]


class Judging(Section):
    """Keys of `monitoring` that say by which figure a window is judged."""

    metric: DecidingMetric | None = Field(
        None,
        description="what decides damage; precision, recall, f1, specificity and roc_auc are the mean over classes, or "
        "of metric_class; null: accuracy, of regression the recipe's metric",
    )
    metric_class: int | None = Field(None, ge=0, description="index of the class that `metric` is of; null: the mean")
    estimate: bool = Field(True, description="estimate the metric from the answers, before labels come")
    label_horizon: int = Field(
        20,
        ge=0,
        description="so many of the last windows are judged again when labels come late: from below min_labels to "
        "enough, or twice as many; 0: none",
    )


def misfits(recipe: Recipe) -> Iterator[str]:
    """What of these keys does not fit the recipe's task, each with what to do."""
    metric, index = recipe.monitoring.metric, recipe.monitoring.metric_class
    regression = recipe.task == "regression"
    if metric is not None and (metric in OF_NUMBERS) != regression:
        fitting = "rmse, mae or r2" if regression else "accuracy, precision, recall, f1, …"
        yield f"monitoring.metric: {metric} is not of task: {recipe.task}; give {fitting}"
    if index is None:
        return
    if metric not in BY_CLASS:
        yield f"monitoring.metric_class: {index} says nothing: set monitoring.metric to one of {', '.join(BY_CLASS)}"
    if recipe.labels is not None and index >= len(recipe.labels):
        yield f"monitoring.metric_class: {index} is no class: the recipe names {len(recipe.labels)}, counted from 0"
