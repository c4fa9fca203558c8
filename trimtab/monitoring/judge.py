"""From a window to a verdict: pure, so that the same rows and labels always give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from trimtab.bootstrap import LEAST_ROWS
from trimtab.journal.rows import HASH, REDACTED
from trimtab.monitoring.columns import columns, number_columns
from trimtab.monitoring.drift import ColumnResult, compare
from trimtab.monitoring.performance import Performance, measure, measure_numbers
from trimtab.monitoring.profile import Profile
from trimtab.monitoring.verdict import Verdict, VerdictKind
from trimtab.monitoring.windows import Answered, WindowLike, answered
from trimtab.task import ERRORS

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
) -> Verdict:
    """The verdict on a window.

    Order: too few answered rows, then data errors (nothing measured on broken inputs may start a retrain), then drift
    and damage, which are independent findings.

    Args:
        window: rows of the journal with the labels that have arrived.
        profile, reference_columns: of the release that `version` names.
        monitoring: the recipe's section.
        version: the version to judge; None: the one that answered the last row. Rows of others are left out.
    """
    rows = answered(window, version)
    performance = _performance(rows, profile, monitoring)
    results: tuple[ColumnResult, ...] = ()
    if len(rows) >= MIN_ROWS:
        results = compare(
            watched(rows, profile),
            reference_columns,
            profile,
            monitoring.drift_alpha,
            inputs_journalled=rows.inputs is not None,
            redacted=redacted(rows, profile),
        )
    kind = _kind(rows, results, performance)
    return Verdict(
        kind=kind,
        lo=int(window.lo),
        hi=int(window.hi),
        version=rows.version,
        rows=len(rows),
        columns=results,
        performance=performance,
        errors=rows.errors,
        other_versions=rows.other_versions,
        duplicates=int(window.duplicates),
        unknown_labels=int(window.unknown_labels),
        reasons=tuple(_reasons(kind, rows, results, performance)),
    )


def _performance(rows: Answered, profile: Profile, monitoring: Monitoring) -> Performance:
    limits = profile.accuracy, monitoring.max_damage, monitoring.window.min_labels
    if profile.metric is None:
        return measure(rows.predicted, as_classes(rows.label), profile.classes, *limits)
    return measure_numbers(rows.output[:, : profile.classes], as_numbers(rows.label), profile.metric, *limits)


def as_numbers(label: Array) -> Array:
    """Labels of a regression, float64 (n,), NaN where there is none: a window without any has no floats to tell by."""
    return label if label.dtype.kind == "f" else np.where(label >= 0, label.astype(np.float64), np.nan)


def as_classes(label: Array) -> Array:
    """Labels of a classifier, int64 (n,), -1 where there is none, also where a regression was served in the window."""
    return label if label.dtype.kind != "f" else np.where(np.isfinite(label), label, -1).astype(np.int64)


def watched(rows: Answered, profile: Profile) -> dict[str, Array]:
    """The watched columns of the judged rows; the inputs' are shorter when some rows' inputs were not journalled."""
    # A window that straddles two versions is as wide as the one with more classes, and NaN beyond this one's.
    output = rows.output[:, : profile.classes]
    if profile.metric is not None:
        return number_columns(rows.inputs, output, profile.kinds)
    return columns(rows.inputs, output, rows.predicted, rows.confidence, profile.kinds)


def redacted(rows: Answered, profile: Profile) -> list[str]:
    """Inputs that the journal marks as left out on purpose (`serving.journal`), while it holds something of others."""
    held = rows.inputs or {}
    return [name for name in profile.kinds if REDACTED + name in held or HASH + name in held]


def _kind(rows: Answered, results: tuple[ColumnResult, ...], performance: Performance) -> VerdictKind:
    if len(rows) < MIN_ROWS:
        return "data_quality" if rows.errors >= MIN_ROWS else "not_enough_rows"
    if any(finding.alert for result in results for finding in result.findings) or _bad_labels(performance):
        return "data_quality"
    drifted = any(result.drifted for result in results)
    if performance.answer == "damage":
        return "drift+damage" if drifted else "damage"
    return "drift" if drifted else "healthy"


def _bad_labels(performance: Performance) -> bool:
    came = performance.labelled + performance.invalid_labels
    return came > 0 and performance.invalid_labels / came >= BAD_SHARE


def _reasons(
    kind: VerdictKind, rows: Answered, results: tuple[ColumnResult, ...], performance: Performance
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
    return [*reasons, _accuracy_in_words(performance)]


def _worth_saying(code: str) -> bool:
    return code != "not_journalled"


def _accuracy_in_words(performance: Performance) -> str:
    seen = f"{performance.labelled} of {performance.rows} rows labelled"
    if performance.invalid_labels:
        seen += f", {performance.invalid_labels} labels are no class of the model"
    if performance.accuracy is None:
        few = f", {LEAST_ROWS} are needed" if performance.metric is not None and performance.labelled else ""
        return f"{performance.name} is undefined: {seen}{few}"
    interval = performance.accuracy
    figures = (
        f"accuracy {interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}], {seen}; "
        f"verified {performance.verified.value:.3f}, limit {performance.limit:.3f}"
    )
    beyond = f"a drop below {performance.limit:.3f}"
    if performance.metric is not None:
        figures = (
            f"{performance.name} {interval.value:.4g} [{interval.low:.4g}, {interval.high:.4g}], {seen}; "
            f"verified {performance.verified.value:.4g}, limit {performance.limit:.4g}"
        )
        beyond = f"that it is {'above' if performance.metric in ERRORS else 'below'} {performance.limit:.4g}"
    said = {
        "ok": "no damage",
        "damage": "measured damage",
        "undecided": f"no damage shown, but {interval.n} rows cannot exclude {beyond}",
        "too_few_labels": "too few labels to say",
    }
    return f"{said[performance.answer]}: {figures}"
