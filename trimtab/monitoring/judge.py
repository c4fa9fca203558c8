"""From a window to a verdict: pure, so that the same rows, labels, release and past always give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from trimtab.bootstrap import LEAST_ROWS
from trimtab.monitoring.columns import columns, number_columns
from trimtab.monitoring.drift import ColumnResult, compare
from trimtab.monitoring.estimate import Estimate
from trimtab.monitoring.figures import Measured, SliceRows, as_classes, as_numbers, measured
from trimtab.monitoring.foresight import Compared, foreseen
from trimtab.monitoring.label_arrival import LabelArrival, arrival
from trimtab.monitoring.metrics import LESS_IS_BETTER
from trimtab.monitoring.performance import Performance
from trimtab.monitoring.performance_reference import PerformanceReference
from trimtab.monitoring.profile import Profile
from trimtab.monitoring.revisions import replaced_by
from trimtab.monitoring.verdict import Verdict, VerdictKind
from trimtab.monitoring.windows import Answered, WindowLike, answered

__all__ = ["as_classes", "as_numbers", "judge", "ready", "watched"]
if TYPE_CHECKING:
    from trimtab.recipe.schema import Monitoring, Window

Array = np.ndarray
MIN_ROWS = 30
BAD_SHARE = 0.05


def ready(
    window_rows: int, labelled: int, oldest_age_s: float, window: Window
) -> Literal["collect", "wait_for_labels", "judge"]:
    """Whether a window can be judged.

    Args:
        window_rows: rows of the window so far; it closes at `window.rows`.
        labelled: how many of them have a label.
        oldest_age_s: seconds since its oldest row.
        window: the recipe's `monitoring.window`.
    """
    if window_rows < window.rows:
        return "collect"
    if labelled >= min(window.min_labels, window_rows) or oldest_age_s >= window.label_wait_s:
        return "judge"
    return "wait_for_labels"


def judge(
    window: WindowLike,
    profile: Profile,
    reference_columns: Mapping[str, Array],
    monitoring: Monitoring,
    *,
    version: str | None = None,
    known: PerformanceReference | None = None,
    past: Sequence[Verdict] = (),
    slices: SliceRows | None = None,
) -> Verdict:
    """The verdict on a window.

    Order: too few answered rows, then data errors (nothing measured on broken inputs may start a retrain), then drift
    and damage, which are independent findings. Damage that is estimated counts only where labels do not say.

    Args:
        window: rows of the journal with the labels that have arrived.
        profile, reference_columns: of the release that `version` names.
        monitoring: the recipe's section.
        version: the version to judge; None: the one that answered the last row. Rows of others are left out.
        known: figures and maps of the release; None of one that was made before there were any.
        past: the verdicts that stand; one on the same rows is the one that this one replaces.
        slices: the recipe's slices, computed from inputs.
    """
    span = int(window.lo), int(window.hi)
    rows = answered(window, version)
    found = measured(rows, profile, monitoring, known, slices)
    performance = found.performance
    results: tuple[ColumnResult, ...] = ()
    estimate: Estimate | None = None
    if len(rows) >= MIN_ROWS:
        now = watched(rows, profile)
        journalled = rows.inputs is not None
        results = compare(now, reference_columns, profile, monitoring.drift_alpha, inputs_journalled=journalled)
        if monitoring.estimate:
            compared = Compared(now, reference_columns, results)
            estimate = foreseen(rows, compared, profile, known, past, span, monitoring)
    labels = _labels(window, rows, profile)
    kind = _kind(rows, results, performance, estimate)
    before = replaced_by(past, span)
    return Verdict(
        kind=kind,
        lo=span[0],
        hi=span[1],
        version=rows.version,
        rows=len(rows),
        columns=results,
        performance=performance,
        errors=rows.errors,
        other_versions=rows.other_versions,
        duplicates=int(window.duplicates),
        unknown_labels=int(window.unknown_labels),
        reasons=tuple(_reasons(rows, results, found, estimate, labels)),
        figures=found.figures,
        estimated=estimate,
        labels=labels,
        revision=0 if before is None else before.revision + 1,
        replaces=None if before is None else before.digest,
        replaced_kind=None if before is None else before.kind,
    )


def _labels(window: WindowLike, rows: Answered, profile: Profile) -> LabelArrival:
    return arrival(
        np.asarray(window.label),
        rows.predicted,
        rows.label,
        rows.time_ns,
        rows.label_time_ns,
        int(window.labels_as_of_ns),
        profile.classes if profile.metric is None else 0,
    )


def watched(rows: Answered, profile: Profile) -> dict[str, Array]:
    """The watched columns of the judged rows; the inputs' are shorter when some rows' inputs were not journalled."""
    # A window that straddles two versions is as wide as the one with more classes, and NaN beyond this one's.
    output = rows.output[:, : profile.classes]
    if profile.metric is not None:
        return number_columns(rows.inputs, output, profile.kinds)
    return columns(rows.inputs, output, rows.predicted, rows.confidence, profile.kinds)


def _kind(
    rows: Answered, results: tuple[ColumnResult, ...], performance: Performance, estimate: Estimate | None
) -> VerdictKind:
    if len(rows) < MIN_ROWS:
        return "data_quality" if rows.errors >= MIN_ROWS else "not_enough_rows"
    if any(finding.alert for result in results for finding in result.findings) or _bad_labels(performance):
        return "data_quality"
    drifted = any(result.drifted for result in results)
    if performance.answer == "damage":
        return "drift+damage" if drifted else "damage"
    if performance.answer in ("too_few_labels", "undefined") and estimate is not None and estimate.answer == "damage":
        return "damage_estimated"
    return "drift" if drifted else "healthy"


def _bad_labels(performance: Performance) -> bool:
    came = performance.labelled + performance.invalid_labels
    return came > 0 and performance.invalid_labels / came >= BAD_SHARE


def _reasons(
    rows: Answered,
    results: tuple[ColumnResult, ...],
    found: Measured,
    estimate: Estimate | None,
    labels: LabelArrival,
) -> list[str]:
    reasons = []
    if len(rows) < MIN_ROWS:
        reasons.append(f"not enough rows: {len(rows)} answered rows, {MIN_ROWS} are needed")
    if rows.errors:
        reasons.append(f"{rows.errors} of {rows.errors + len(rows)} requests ended in an error")
    if rows.other_versions:
        reasons.append(f"{rows.other_versions} rows answered by another version are left out")
    for result in results:
        reasons += [f"{result.name}: {finding.detail}" for finding in result.findings if _worth_saying(finding.code)]
        if result.drifted:
            reasons.append(f"{result.name} drifted: p = {result.p:.2g} ≤ {result.threshold:.2g} ({result.change})")
    if results and rows.inputs is None:
        reasons.append("inputs are not journalled: only the answers are watched")
    elif results and rows.without_inputs:
        reasons.append(f"{rows.without_inputs} rows have no journalled inputs, or of another shape: answers only")
    if results and not any(result.drifted for result in results):
        reasons.append(f"no drift in {sum(result.p is not None for result in results)} columns tested")
    measured_enough = found.performance.answer not in ("too_few_labels", "undefined")
    said = None if estimate is None else estimate.in_words(found.performance.accuracy if measured_enough else None)
    more = [*found.notes, said, labels.in_words()]
    return [*reasons, *(line for line in more if line), _accuracy_in_words(found.performance)]


def _worth_saying(code: str) -> bool:
    return code != "not_journalled"


def _accuracy_in_words(performance: Performance) -> str:
    seen = f"{performance.labelled} of {performance.rows} rows labelled"
    if performance.invalid_labels:
        seen += f", {performance.invalid_labels} labels are no class of the model"
    if performance.undefined is not None:
        return f"{performance.name} is undefined: {performance.undefined}; {seen}"
    if performance.accuracy is None:
        few = f", {LEAST_ROWS} are needed" if performance.metric is not None and performance.labelled else ""
        return f"{performance.name} is undefined: {seen}{few}"
    interval = performance.accuracy
    figures = (
        f"accuracy {interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}], {seen}; "
        f"verified {performance.verified.value:.3f}, limit {performance.limit:.3f}"
    )
    beyond = f"a drop below {performance.limit:.3f}"
    less_is_better = performance.metric in LESS_IS_BETTER
    if performance.metric is not None:
        figures = (
            f"{performance.name} {interval.value:.4g} [{interval.low:.4g}, {interval.high:.4g}], {seen}; "
            f"verified {performance.verified.value:.4g}, limit {performance.limit:.4g}"
        )
        beyond = f"that it is {'above' if less_is_better else 'below'} {performance.limit:.4g}"
    said = {
        "ok": "no damage",
        "damage": "measured damage",
        "undecided": f"no damage shown, but {interval.n} rows cannot exclude {beyond}",
        "too_few_labels": "too few labels to say",
    }
    return f"{said[performance.answer]}: {figures}"
