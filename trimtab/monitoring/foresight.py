"""The estimate of a window, from what the judge has at hand: answers, inputs, drift, the release and the past."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trimtab.candidate import Interval
from trimtab.monitoring.columns import is_prediction
from trimtab.monitoring.drift import ColumnResult
from trimtab.monitoring.estimate import Estimate, estimate_classes, estimate_numbers, judged, past_error
from trimtab.monitoring.figures import deciding
from trimtab.monitoring.metrics import ALL, limit_of
from trimtab.monitoring.performance_reference import PerformanceReference
from trimtab.monitoring.profile import Profile
from trimtab.monitoring.revisions import estimate_errors
from trimtab.monitoring.support import drifted_inputs, outside
from trimtab.monitoring.windows import Answered

if TYPE_CHECKING:
    from trimtab.monitoring.verdict import Verdict
    from trimtab.recipe.schema import Monitoring

Array = np.ndarray


@dataclass(frozen=True)
class Compared:
    """Watched columns of the judged rows and of the release, and what was said of them."""

    now: Mapping[str, Array]
    reference: Mapping[str, Array]
    results: Sequence[ColumnResult]


def foreseen(
    rows: Answered,
    compared: Compared,
    profile: Profile,
    known: PerformanceReference | None,
    past: Sequence[Verdict],
    span: tuple[int, int],
    monitoring: Monitoring,
) -> Estimate:
    """What the deciding metric is estimated to be, and whether that is damage.

    Args:
        known: of the release. past: verdicts that stand. span: offsets of the window, whose own verdict is not past.
    """
    metric, of = deciding(profile, monitoring)
    if profile.metric is None:
        estimate = estimate_classes(known, rows.output[:, : profile.classes], rows.predicted, metric, of)
    else:
        estimate = estimate_numbers(known, _of_same_rows(compared.now, rows), metric)
    verified = _verified(profile, known, metric, of)
    errors = estimate_errors(past, rows.version, span, metric, of)
    return judged(
        estimate,
        verified,
        None if verified is None else limit_of(metric, verified.value, monitoring.max_damage),
        outside(compared.now, compared.reference, profile, compared.results, monitoring.drift_alpha),
        drifted_inputs(profile, compared.results),
        past_error(errors),
    )


def _of_same_rows(now: Mapping[str, Array], rows: Answered) -> dict[str, Array] | None:
    """Columns of the rows whose inputs are known; None where there are none."""
    if rows.inputs is None:
        return None
    return {name: values[rows.has_inputs] if is_prediction(name) else values for name, values in now.items()}


def _verified(profile: Profile, known: PerformanceReference | None, metric: str, of: str) -> Interval | None:
    if (metric, of) == (profile.metric or "accuracy", ALL):
        return profile.accuracy
    return None if known is None else known.verified(metric, of)
