"""What a release knows of its own performance: the figures it was verified with, and what estimates them later.

It lies in the release as `performance.json`. A release that was made before there was one has none: its accuracy is in
the profile, other metrics and estimates are not available.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trimtab.candidate import Interval
from trimtab.errors import DataError, RegistryError
from trimtab.monitoring import calibration, loss_model
from trimtab.monitoring.calibration import CalibrationMap
from trimtab.monitoring.class_figures import class_figures, slice_figures
from trimtab.monitoring.loss_model import LossModel
from trimtab.monitoring.metrics import Figure, find
from trimtab.monitoring.number_figures import number_figures, slice_numbers
from trimtab.monitoring.profile import LABEL
from trimtab.task import Metric, Task

Array = np.ndarray
NONE = "release has no calibration map"


@dataclass(frozen=True)
class PerformanceReference:
    """Figures and maps, all from the held-out rows that the profile describes too.

    Attributes:
        figures: verified, of all rows, by class and by the recipe's slices.
        calibration: of a classifier. losses: of a regression, by metric: "mae", "rmse".
        without: why there is no map, in words; "" where there is one.
    """

    figures: tuple[Figure, ...]
    calibration: CalibrationMap | None = None
    losses: Mapping[str, LossModel] = field(default_factory=dict)
    without: str = ""

    def verified(self, metric: str, of: str) -> Interval | None:
        """A figure as it was verified; None where there is none, or it was undefined."""
        figure = find(self.figures, metric, of)
        return None if figure is None else figure.interval

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe; the map is under "calibration map"."""
        return {
            "figures": [figure.to_json() for figure in self.figures],
            "calibration map": None if self.calibration is None else self.calibration.to_json(),
            "losses": {metric: model.to_json() for metric, model in self.losses.items()},
            "without": self.without,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PerformanceReference:
        """The inverse of `to_json`."""
        known = value["calibration map"]
        return cls(
            figures=tuple(Figure.from_json(one) for one in value["figures"]),
            calibration=None if known is None else CalibrationMap.from_json(known),
            losses={metric: LossModel.from_json(one) for metric, one in value["losses"].items()},
            without=value["without"],
        )


def read_performance(path: Path) -> PerformanceReference | None:
    """What lies in a release; None of one that was made before there was such a file.

    Raises:
        RegistryError: the file is there and cannot be read.
    """
    if not path.exists():
        return None
    try:
        return PerformanceReference.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"the release's performance cannot be read: {type(error).__name__}: {error}"
        raise RegistryError(what, where=str(path), fix="register the release again") from None


def build(
    columns: Mapping[str, Array], output: Array, labels: Array, slices: Mapping[str, Array], task: Task
) -> PerformanceReference:
    """Figures and maps of a release.

    Args:
        columns: its reference columns, as `profile.build` gives them.
        output: (n, classes) probabilities, of a regression (n, k) numbers; of rows the model was not trained on.
        labels: int64 (n,), of a regression float (n, k).
        slices: the recipe's slices of these rows, name → bool (n,).
    """
    if task.regression:
        return _of_numbers(columns, output, labels, slices, task.metric)
    predicted, label = output.argmax(axis=1), np.asarray(labels, np.int64)
    figures = (*class_figures(output, predicted, label, output.shape[1]), *slice_figures(predicted, label, slices))
    try:
        return PerformanceReference(figures, calibration.fit(output, label))
    except DataError as error:
        return PerformanceReference(figures, without=error.what)


def _of_numbers(
    columns: Mapping[str, Array], output: Array, labels: Array, slices: Mapping[str, Array], metric: Metric
) -> PerformanceReference:
    numbers = np.asarray(labels, np.float64)
    figures = (*number_figures(output, numbers), *slice_numbers(metric, output, numbers, slices))
    watched = {name: values for name, values in columns.items() if name != LABEL}
    try:
        losses = {of: loss_model.fit(watched, output, numbers, of == "rmse") for of in ("mae", "rmse")}
    except DataError as error:
        return PerformanceReference(figures, without=error.what)
    return PerformanceReference(figures, losses=losses)
