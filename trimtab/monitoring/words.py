"""A verdict in words."""

from __future__ import annotations

from trimtab.bootstrap import LEAST_ROWS
from trimtab.monitoring.drift import ColumnResult
from trimtab.monitoring.estimate import Estimate
from trimtab.monitoring.figures import Measured
from trimtab.monitoring.gradual import Trace
from trimtab.monitoring.label_arrival import LabelArrival
from trimtab.monitoring.metrics import LESS_IS_BETTER
from trimtab.monitoring.performance import Performance
from trimtab.monitoring.windows import MIN_ROWS, Answered


def reasons(
    rows: Answered,
    results: tuple[ColumnResult, ...],
    gradual: tuple[Trace, ...],
    found: Measured,
    estimate: Estimate | None,
    labels: LabelArrival,
) -> list[str]:
    """What was seen, one sentence each, what decides last."""
    measured_enough = found.performance.answer not in ("too_few_labels", "undefined")
    said = None if estimate is None else estimate.in_words(found.performance.accuracy if measured_enough else None)
    more = [*found.notes, said, labels.in_words()]
    return [
        *_of_rows(rows),
        *_of_columns(rows, results, gradual),
        *(line for line in more if line),
        _of_performance(found.performance),
    ]


def any_drifted(results: tuple[ColumnResult, ...], gradual: tuple[Trace, ...]) -> bool:
    """Whether a column drifted, in this window or over several."""
    return any(result.drifted for result in results) or any(trace.drifted for trace in gradual)


def _of_rows(rows: Answered) -> list[str]:
    said = []
    if len(rows) < MIN_ROWS:
        said.append(f"not enough rows: {len(rows)} answered rows, {MIN_ROWS} are needed")
    if rows.errors:
        said.append(f"{rows.errors} of {rows.errors + len(rows)} requests ended in an error")
    if rows.other_versions:
        said.append(f"{rows.other_versions} rows answered by another version are left out")
    return said


def _of_columns(rows: Answered, results: tuple[ColumnResult, ...], gradual: tuple[Trace, ...]) -> list[str]:
    said = []
    for result in results:
        said += [f"{result.name}: {finding.detail}" for finding in result.findings if _worth_saying(finding.code)]
        if result.drifted:
            score = f"{result.test} {result.score:.3g}, drift from {result.limit:.3g}"
            said.append(f"{result.name} drifted: {score}, p = {result.p:.2g} ({result.change})")
    said += [
        f"{trace.name} drifted gradually: p = {trace.p:.2g} over {trace.windows} windows with fading weight"
        for trace in gradual
        if trace.drifted
    ]
    if results and rows.inputs is None:
        said.append("inputs are not journalled: only the answers are watched")
    elif results and rows.without_inputs:
        said.append(f"{rows.without_inputs} rows have no journalled inputs, or of another shape: answers only")
    if results and not any_drifted(results, gradual):
        said.append(f"no drift in {sum(result.p is not None for result in results)} columns tested")
    return said


def _worth_saying(code: str) -> bool:
    return code != "not_journalled"


def _of_performance(performance: Performance) -> str:
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
