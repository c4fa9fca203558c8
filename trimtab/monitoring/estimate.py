"""What a window's performance is estimated to be before its labels come; and when nothing can be said.

An estimate can accuse and cannot acquit: where inputs drifted within what the release has seen, one that shows damage
stands, and one that shows none is "cannot tell", because confident answers to inputs of another kind prove little.
Where inputs have left what the release has seen, or where earlier estimates were further off than the damage that is
looked for, it is "cannot tell" either way. The figure is shown all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from trimtab.candidate import Interval
from trimtab.monitoring.cbpe import estimable, estimated
from trimtab.monitoring.loss_model import LossModel
from trimtab.monitoring.metrics import ALL, CONFIDENCE, answer_of, written
from trimtab.monitoring.performance_reference import NONE, PerformanceReference

Array = np.ndarray
Answer = Literal["ok", "damage", "undecided", "cannot_tell", "not_available"]
LEAST_PAST = 3
MOST_SPREAD = 50.0
Z = 1.959963984540054


@dataclass(frozen=True)
class PastError:
    """How far off estimates were in earlier windows whose labels came: estimate less measured figure.

    Attributes:
        windows: how many. mean: of the differences; mean_abs: of their sizes.
    """

    windows: int
    mean: float
    mean_abs: float


@dataclass(frozen=True)
class Estimate:
    """An estimate.

    Attributes:
        answer: as of `performance.Performance`, and "cannot_tell" and "not_available"; `why` says why.
        metric, of: what is estimated. method: how; "" where there is none.
        value: the estimate with its interval. limit: beyond it is damage. accuracy: of a classifier, too.
        supported: whether the inputs lie where the release was verified.
        past: of earlier windows; None before the first.
    """

    answer: Answer
    why: str
    metric: str
    of: str
    method: str = ""
    value: Interval | None = None
    limit: float | None = None
    accuracy: Interval | None = None
    supported: bool = True
    past: PastError | None = None

    @property
    def name(self) -> str:
        """The metric as it is written."""
        return written(self.metric, self.of)

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Estimate:
        """The inverse of `to_json`."""
        ends = {key: None if value[key] is None else Interval(**value[key]) for key in ("value", "accuracy")}
        past = None if value["past"] is None else PastError(**value["past"])
        return cls(**{**value, **ends, "past": past})

    def in_words(self, measured: Interval | None) -> str:
        """One line; with the measured figure beside it, where there is one."""
        if self.value is None:
            return f"{self.name} is not estimated: {self.answer.replace('_', ' ')}: {self.why}"
        one = self.value
        said = f"{self.name} is estimated at {one.value:.4g} [{one.low:.4g}, {one.high:.4g}] ({self.method})"
        if self.limit is not None:
            said += f", limit {self.limit:.4g}"
        if self.answer == "cannot_tell":
            said += f"; cannot tell: {self.why}"
        if measured is not None:
            said += f"; measured {measured.value:.4g}, so it was off by {one.value - measured.value:+.3g}"
        if self.past is not None:
            off = self.past
            said += (
                f"; over {off.windows} earlier windows it was off by {off.mean_abs:.3g} on average ({off.mean:+.3g})"
            )
        return said


def estimate_classes(
    known: PerformanceReference | None, output: Array, predicted: Array, metric: str, of: str
) -> Estimate:
    """The deciding metric of a classifier from its answers, not yet judged (see `judged`).

    Args:
        known: of the release. output: float (n, classes). predicted: int (n,). metric, of: what decides.
    """
    blank = Estimate("not_available", "", metric, of)
    if known is None or known.calibration is None:
        return replace(blank, why=NONE if known is None or not known.without else known.without)
    whole = np.isfinite(output).all(axis=1)
    if not whole.any():
        return replace(blank, why="no answer has finite probabilities")
    wanted = [("accuracy", ALL), *([(metric, of)] if estimable(metric) else [])]
    accuracy, *rest = estimated(output[whole], predicted[whole], known.calibration, wanted)
    method = f"CBPE, {known.calibration.kind}"
    if not rest:
        return replace(blank, why=f"{blank.name} does not follow from the expected confusion matrix", accuracy=accuracy)
    why = "" if rest[0] is not None else f"{blank.name} is undefined for these answers"
    return replace(blank, why=why, method=method, value=rest[0], accuracy=accuracy)


def estimate_numbers(known: PerformanceReference | None, columns: Mapping[str, Array] | None, metric: str) -> Estimate:
    """RMSE or MAE of a regression from where its rows lie, not yet judged.

    Args:
        columns: watched columns of rows whose inputs are known, name → (n,); None where no inputs are journalled.
    """
    blank = Estimate("not_available", "", metric, ALL)
    if known is None or not known.losses:
        return replace(blank, why=NONE if known is None or not known.without else known.without)
    if metric not in known.losses:
        return replace(blank, why=f"{blank.name} needs the spread of the labels")
    model = known.losses[metric]
    if columns is None or set(model.columns) - set(columns):
        return replace(blank, why="inputs are not journalled")
    method = f"direct loss estimation, {model.leaves} {'part' if model.leaves == 1 else 'parts'}"
    return replace(blank, method=method, value=_of_losses(model, columns))


def _of_losses(model: LossModel, columns: Mapping[str, Array]) -> Interval:
    """The error's interval on a logarithmic scale: it is above 0, and skewed."""
    mean, error = model.expected(columns)
    factor = float(np.exp(min(Z * error / mean, MOST_SPREAD))) if mean > 0 else 1.0
    ends = [mean, mean / factor, mean * factor]
    value, low, high = (float(np.sqrt(end)) for end in ends) if model.squared else ends
    return Interval(value, low, high, len(next(iter(columns.values()))), CONFIDENCE)


def judged(
    found: Estimate,
    verified: Interval | None,
    limit: float | None,
    outside: str | None,
    drifted: Sequence[str],
    past: PastError | None,
) -> Estimate:
    """Whether an estimate shows damage.

    Args:
        verified, limit: of the deciding metric, as of `performance.Performance`; None where they are not known.
        outside: how inputs leave the release's support, or None. drifted: input columns that drifted.
        past: how far off earlier estimates were.
    """
    seen = replace(found, limit=limit, supported=outside is None, past=past)
    if found.value is None:
        return seen
    if verified is None or limit is None:
        return replace(seen, why=f"of this release no {found.name} was verified")
    if outside is not None:
        return replace(seen, answer="cannot_tell", why=outside)
    allowed = abs(verified.value - limit)
    if past is not None and past.windows >= LEAST_PAST and past.mean_abs > allowed:
        return replace(seen, answer="cannot_tell", why=f"earlier estimates were off by more than {allowed:.3g}")
    answer = answer_of(found.metric, found.value, limit)
    if drifted and answer != "damage":
        return replace(seen, answer="cannot_tell", why=f"{drifted[0]} drifted: no damage is seen, which proves little")
    return replace(seen, answer=answer, why="")


def past_error(errors: Sequence[float]) -> PastError | None:
    """The running error from that of each earlier window."""
    if not errors:
        return None
    off = np.array(errors)
    return PastError(len(errors), float(off.mean()), float(np.abs(off).mean()))
