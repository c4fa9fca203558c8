"""The metrics of a window by name: which way is better, what of it is damage; and one figure of one metric.

A figure that cannot be formed says why ("no positives among 50 labels") and never counts as damage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trimtab.candidate import Interval
from trimtab.task import ERRORS, NAMES

Answer = Literal["ok", "damage", "undecided"]
ALL, MACRO, MICRO = "all", "macro", "micro"
CONFIDENCE = 0.95
BY_COUNTS = ("precision", "recall", "f1", "specificity")
LESS_IS_BETTER = ERRORS | {"log_loss", "ece"}
RELATIVE = ERRORS | {"log_loss"}
WRITTEN = {
    **NAMES,
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "specificity": "specificity",
    "roc_auc": "ROC AUC",
    "log_loss": "log loss",
    "ece": "calibration error",
}


@dataclass(frozen=True)
class Figure:
    """One metric over some rows.

    Attributes:
        metric: one of WRITTEN.
        of: "all" rows; "macro" or "micro" mean over classes; "class 3" (one against the rest); "slice night".
        interval: 95 %; None where it is undefined.
        undefined: why, in words; "" where it is defined.
        verified: its value when the release was verified; None where that is not known.
    """

    metric: str
    of: str
    interval: Interval | None
    undefined: str = ""
    verified: float | None = None

    @property
    def name(self) -> str:
        """As it is written, e.g. "recall (class 3)"."""
        return written(self.metric, self.of)

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe, without what is not there: a ledger keeps dozens of them for each window."""
        plain: dict[str, Any] = {"metric": self.metric, "of": self.of}
        if self.interval is not None:
            plain["interval"] = [self.interval.value, self.interval.low, self.interval.high, self.interval.n]
        if self.undefined:
            plain["undefined"] = self.undefined
        if self.verified is not None:
            plain["verified"] = self.verified
        return plain

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Figure:
        """The inverse of `to_json`."""
        interval = None
        if "interval" in value:
            point, low, high, n = value["interval"]
            interval = Interval(point, low, high, n, CONFIDENCE)
        return cls(value["metric"], value["of"], interval, value.get("undefined", ""), value.get("verified"))


def written(metric: str, of: str | None = None) -> str:
    """A metric as it is written: "accuracy", "F1 (macro)"."""
    return WRITTEN[metric] if of in (None, ALL) else f"{WRITTEN[metric]} ({of})"


def class_name(index: int) -> str:
    """What a class is called in `Figure.of`."""
    return f"class {index}"


def class_index(of: str) -> int:
    """The inverse of `class_name`."""
    return int(of.removeprefix("class "))


def chosen_of(metric: str, index: int | None) -> str:
    """Which figure of a metric decides: of one class, the mean over classes, or of all rows."""
    if index is not None:
        return class_name(index)
    return MACRO if metric in (*BY_COUNTS, "roc_auc") else ALL


def find(figures: Sequence[Figure], metric: str, of: str) -> Figure | None:
    """The figure with this metric and these rows, if there is one."""
    return next((figure for figure in figures if (figure.metric, figure.of) == (metric, of)), None)


def limit_of(metric: str, verified: float, max_damage: float) -> float:
    """How bad a figure may be: of RMSE, MAE and log loss worse by a share of the verified one, else by an amount."""
    if metric in RELATIVE:
        return verified * (1 + max_damage)
    return verified + max_damage if metric in LESS_IS_BETTER else verified - max_damage


def answer_of(metric: str, interval: Interval, limit: float) -> Answer:
    """ "damage": even the better end of the interval is beyond the limit; "ok": even the worse end is not."""
    sign = -1 if metric in LESS_IS_BETTER else 1
    worst, best = sorted((sign * interval.low, sign * interval.high))
    if best < sign * limit:
        return "damage"
    return "ok" if worst >= sign * limit else "undecided"
