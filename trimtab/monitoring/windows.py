"""What monitoring needs of a journal window, and the rows of it that one verdict is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Array = np.ndarray
FIRST_ERROR_STATUS = 400


class WindowLike(Protocol):
    """The attributes of `trimtab.journal.window.Window` that are read here; n rows, C classes.

    `label` is int64 with -1 for "none yet", of a regression float64 with NaN for it; labels were joined by
    request id and row, never by order of arrival.
    `has_inputs` is bool (n,), or empty for "all have": where it is False the inputs hold a filler, not values.
    `label_time_ns` is int64 (n,), -1 where no label has come, or empty for "not known".
    """

    @property
    def version(self) -> Array: ...
    @property
    def predicted(self) -> Array: ...
    @property
    def confidence(self) -> Array: ...
    @property
    def output(self) -> Array: ...
    @property
    def inputs(self) -> Mapping[str, Array] | None: ...
    @property
    def has_inputs(self) -> Array: ...
    @property
    def label(self) -> Array: ...
    @property
    def time_ns(self) -> Array: ...
    @property
    def label_time_ns(self) -> Array: ...
    @property
    def labels_as_of_ns(self) -> int: ...
    @property
    def status(self) -> Array: ...
    @property
    def lo(self) -> int: ...
    @property
    def hi(self) -> int: ...
    @property
    def duplicates(self) -> int: ...
    @property
    def unknown_labels(self) -> int: ...


@dataclass(frozen=True)
class Answered:
    """The rows that one version answered.

    Attributes:
        version: the version they are about.
        inputs: name → (m, ...) of the m ≤ n rows whose inputs were journalled, in order; None when there are none.
        without_inputs: n − m.
        output: (n, C) probabilities, or numbers; predicted, label: int64 (n,), labels of a regression float64;
            confidence: (n,).
        errors: rows of this version that ended in an error; they are not among the n.
        other_versions: rows of the window that another version answered; left out.
        has_inputs: bool (n,), which rows the m are.
        time_ns, label_time_ns: int64 (n,); of the second -1 where no label has come, or empty.
    """

    version: str
    inputs: Mapping[str, Array] | None
    without_inputs: int
    output: Array
    predicted: Array
    confidence: Array
    label: Array
    errors: int
    other_versions: int
    has_inputs: Array
    time_ns: Array
    label_time_ns: Array

    def __len__(self) -> int:
        return len(self.predicted)

    @property
    def error_rate(self) -> float:
        """Share of this version's rows that ended in an error; 0 when it has none at all."""
        total = len(self) + self.errors
        return self.errors / total if total else 0.0


def answered(window: WindowLike, version: str | None = None) -> Answered:
    """The rows of a window that `version` answered without an error.

    A window can straddle a promotion. A profile describes one version, so rows of another one are left out and
    counted instead of being mixed in.

    Args:
        window: rows of the journal.
        version: the version to judge; None: the one that answered the window's last row.
    """
    versions = np.asarray(window.version).astype(str)
    if version is None:
        version = str(versions[-1]) if len(versions) else ""
    mine = versions == version
    failed = np.asarray(window.status) >= FIRST_ERROR_STATUS
    keep = mine & ~failed
    has_inputs = np.asarray(window.has_inputs, bool)
    kept = keep & has_inputs if len(has_inputs) else keep
    inputs = window.inputs if window.inputs is not None and kept.any() else None
    label_time_ns = np.asarray(window.label_time_ns)
    return Answered(
        version=version,
        inputs=None if inputs is None else {name: np.asarray(values)[kept] for name, values in inputs.items()},
        without_inputs=int(keep.sum() - (0 if inputs is None else kept.sum())),
        output=np.asarray(window.output)[keep],
        predicted=np.asarray(window.predicted)[keep].astype(np.int64),
        confidence=np.asarray(window.confidence)[keep],
        label=_labels(np.asarray(window.label)[keep]),
        errors=int((mine & failed).sum()),
        other_versions=int((~mine).sum()),
        has_inputs=kept[keep] if inputs is not None else np.zeros(int(keep.sum()), bool),
        time_ns=np.asarray(window.time_ns)[keep],
        label_time_ns=label_time_ns[keep] if len(label_time_ns) else label_time_ns,
    )


def _labels(label: Array) -> Array:
    return label.astype(np.float64 if label.dtype.kind == "f" else np.int64)
