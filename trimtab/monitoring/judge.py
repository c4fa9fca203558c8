"""From a window to a verdict: pure, so that the same rows, labels, release and past always give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from trimtab.journal.rows import DESCRIPTORS, HASH, REDACTED
from trimtab.monitoring.columns import columns, input_kinds, number_columns
from trimtab.monitoring.drift import ColumnResult, Comparison, Pair, compare, gradual_level
from trimtab.monitoring.estimate import Estimate
from trimtab.monitoring.figures import SliceRows, as_classes, as_numbers, measured
from trimtab.monitoring.foresight import Compared, foreseen
from trimtab.monitoring.gradual import Trace, gather
from trimtab.monitoring.label_arrival import LabelArrival, arrival
from trimtab.monitoring.own import NONE, Own, try_own_columns
from trimtab.monitoring.performance import Performance
from trimtab.monitoring.performance_reference import PerformanceReference
from trimtab.monitoring.profile import Profile
from trimtab.monitoring.revisions import replaced_by
from trimtab.monitoring.verdict import Verdict, VerdictKind
from trimtab.monitoring.windows import MIN_ROWS, Answered, WindowLike, answered
from trimtab.monitoring.words import any_drifted, reasons

__all__ = ["as_classes", "as_numbers", "judge", "ready", "watched"]
if TYPE_CHECKING:
    from trimtab.recipe.schema import Monitoring, Window

Array = np.ndarray
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
    own: Own = NONE,
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
        past: the verdicts that stand; one on the same rows is the one that this one replaces. Gradual drift goes on
            from the latest on rows before these, of the same version.
        slices: the recipe's slices, computed from inputs. own: its own descriptors, name → function.
    """
    span = int(window.lo), int(window.hi)
    rows = answered(window, version)
    found = measured(rows, profile, monitoring, known, slices)
    performance = found.performance
    results: tuple[ColumnResult, ...] = ()
    sound: Mapping[str, Pair] = {}
    estimate: Estimate | None = None
    if len(rows) >= MIN_ROWS:
        now, failed = _with_own(rows, profile, own)
        comparison = _compared(rows, now, failed, profile, reference_columns, monitoring)
        results, sound = comparison.results, comparison.sound()
        if monitoring.estimate:
            compared = Compared(now, reference_columns, results)
            estimate = foreseen(rows, compared, profile, known, past, span, monitoring)
    labels = _labels(window, rows, profile)
    gradual = _gathered(sound, _latest(past, span, rows.version), profile, monitoring)
    kind = _kind(rows, results, performance, gradual, estimate)
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
        reasons=tuple(reasons(rows, results, gradual, found, estimate, labels)),
        gradual=gradual,
        figures=found.figures,
        estimated=estimate,
        labels=labels,
        revision=0 if before is None else before.revision + 1,
        replaces=None if before is None else before.digest,
        replaced_kind=None if before is None else before.kind,
    )


def _with_own(rows: Answered, profile: Profile, own: Own) -> tuple[dict[str, Array], dict[str, str]]:
    """The watched columns, the recipe's own among them, and of those that gave nothing why."""
    made, failed = try_own_columns(profile.own, own, rows.inputs) if rows.inputs else ({}, {})
    return {**watched(rows, profile), **made}, failed


def _compared(
    rows: Answered,
    now: Mapping[str, Array],
    failed: Mapping[str, str],
    profile: Profile,
    reference: Mapping[str, Array],
    monitoring: Monitoring,
) -> Comparison:
    return compare(
        now,
        reference,
        profile,
        monitoring.drift_alpha,
        monitoring.drift,
        inputs_journalled=rows.inputs is not None,
        redacted=redacted(rows, profile),
        failed=failed,
    )


def _latest(past: Sequence[Verdict], span: tuple[int, int], version: str) -> Verdict | None:
    """The verdict on the window before these rows, of the same version."""
    before = [verdict for verdict in past if verdict.version == version and verdict.hi <= span[0]]
    return max(before, key=lambda verdict: verdict.hi, default=None)


def _gathered(
    sound: Mapping[str, Pair], before: Verdict | None, profile: Profile, monitoring: Monitoring
) -> tuple[Trace, ...]:
    memory = monitoring.drift.memory
    prior = before.gradual if before is not None else ()
    return gather(sound, prior, memory, gradual_level(profile, monitoring.drift_alpha)) if memory else ()


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


def watched(rows: Answered, profile: Profile, own: Own = NONE) -> dict[str, Array]:
    """The watched columns of the judged rows; the inputs' are shorter when some rows' inputs were not journalled.

    Inputs that the reference does not have are in it, and so are those of the recipe's own descriptors that work.
    """
    if rows.inputs:
        made, _ = try_own_columns(profile.own, own, rows.inputs) if own else ({}, {})
        marks = (REDACTED, HASH, DESCRIPTORS)
        new = {
            name: values
            for name, values in rows.inputs.items()
            if name not in profile.kinds and not name.startswith(marks)
        }
        return {**_watched(rows, replace(profile, kinds={**profile.kinds, **input_kinds(new)})), **made}
    return _watched(rows, profile)


def _watched(rows: Answered, profile: Profile) -> dict[str, Array]:
    # A window that straddles two versions is as wide as the one with more classes, and NaN beyond this one's.
    output = rows.output[:, : profile.classes]
    if profile.metric is not None:
        return number_columns(rows.inputs, output, profile.kinds, profile.fitted)
    return columns(rows.inputs, output, rows.predicted, rows.confidence, profile.kinds, profile.fitted)


def redacted(rows: Answered, profile: Profile) -> list[str]:
    """Inputs that the journal marks as left out on purpose (`serving.journal`), while it holds something of others.

    Of those in whose place descriptors are journalled, that is what takes more than these.
    """
    held = rows.inputs or {}
    return [name for name in profile.kinds if any(mark + name in held for mark in (REDACTED, HASH, DESCRIPTORS))]


def _kind(
    rows: Answered,
    results: tuple[ColumnResult, ...],
    performance: Performance,
    gradual: tuple[Trace, ...],
    estimate: Estimate | None,
) -> VerdictKind:
    if len(rows) < MIN_ROWS:
        return "data_quality" if rows.errors >= MIN_ROWS else "not_enough_rows"
    if any(finding.alert for result in results for finding in result.findings) or _bad_labels(performance):
        return "data_quality"
    drifted = any_drifted(results, gradual)
    if performance.answer == "damage":
        return "drift+damage" if drifted else "damage"
    if performance.answer in ("too_few_labels", "undefined") and estimate is not None and estimate.answer == "damage":
        return "damage_estimated"
    return "drift" if drifted else "healthy"


def _bad_labels(performance: Performance) -> bool:
    came = performance.labelled + performance.invalid_labels
    return came > 0 and performance.invalid_labels / came >= BAD_SHARE
