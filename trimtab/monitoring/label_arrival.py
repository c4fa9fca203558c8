"""How labels arrived: how late, how many, and of which answers, so that a reader can doubt what they say.

A figure over labelled rows is one of all rows only if labels arrive whatever the answer was. Where one predicted class
has far fewer of them than another, they do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trimtab.journal.window import coverage_by_predicted, has_label, label_delay_s

Array = np.ndarray
MOST_CLASSES = 50


@dataclass(frozen=True)
class LabelArrival:
    """Labels of one window.

    Attributes:
        in_window: rows of the whole window that have one: those of other versions and failed ones too.
        delay_median_s, delay_p90_s: seconds from answer to label, over the judged rows; None without labels.
        by_predicted: predicted class → (rows, labelled); of up to 50 classes, empty of a regression.
        as_of_ns: when the last label that counts arrived (see `journal.window.Window`).
    """

    in_window: int
    delay_median_s: float | None
    delay_p90_s: float | None
    by_predicted: Mapping[int, tuple[int, int]]
    as_of_ns: int

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe: classes as a list of [class, rows, labelled]."""
        return {**asdict(self), "by_predicted": [[k, *pair] for k, pair in sorted(self.by_predicted.items())]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LabelArrival:
        """The inverse of `to_json`."""
        return cls(**{**value, "by_predicted": {k: (rows, known) for k, rows, known in value["by_predicted"]}})

    def in_words(self) -> str | None:
        """One line on delay and on the class that is labelled least; None without labels."""
        if self.delay_median_s is None or self.delay_p90_s is None:
            return None
        said = (
            f"labels came {_time(self.delay_median_s)} after the answer (median; 90 % within {_time(self.delay_p90_s)})"
        )
        shares = {index: known / rows for index, (rows, known) in self.by_predicted.items()}
        if len(shares) > 1 and min(shares.values()) < max(shares.values()):
            least = min(shares, key=lambda index: (shares[index], index))
            rows, known = self.by_predicted[least]
            said += f"; fewest of predicted class {least}: {known} of {rows} rows"
        return said


def arrival(
    window_labels: Array,
    predicted: Array,
    label: Array,
    time_ns: Array,
    label_time_ns: Array,
    as_of_ns: int,
    classes: int,
) -> LabelArrival:
    """How labels arrived.

    Args:
        window_labels: labels of the whole window. predicted, label, time_ns, label_time_ns: (n,), of the judged rows;
            `label_time_ns` may be empty: not known.
        as_of_ns: of the window. classes: of the model; 0 of a regression.
    """
    timed = len(label_time_ns) == len(time_ns)
    delay = label_delay_s(time_ns, label_time_ns) if timed else np.empty(0)
    shown = 0 < classes <= MOST_CLASSES
    return LabelArrival(
        in_window=int(has_label(window_labels).sum()),
        delay_median_s=float(np.median(delay)) if len(delay) else None,
        delay_p90_s=float(np.quantile(delay, 0.9)) if len(delay) else None,
        by_predicted=coverage_by_predicted(predicted, has_label(label)) if shown else {},
        as_of_ns=as_of_ns,
    )


def _time(seconds: float) -> str:
    """Seconds as one reads them: 42 s, 3.5 min, 2.1 h, 4.0 days."""
    for unit, size in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
