"""The page of a verdict: Evidently's own report, with our verdict on top of it and the same tests behind both."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from trimtab.errors import StateError
from trimtab.monitoring.columns import PREDICTED, PREDICTION
from trimtab.monitoring.drawn_once import drawn_once
from trimtab.monitoring.drift import ColumnResult, Pair, pairs_of
from trimtab.monitoring.engine import evidently, quiet
from trimtab.monitoring.frames import Frames, datasets, frames
from trimtab.monitoring.gradual import Trace
from trimtab.monitoring.judge import as_classes, as_numbers
from trimtab.monitoring.profile import LABEL, Profile
from trimtab.monitoring.summary import MOST
from trimtab.monitoring.verdict import Verdict

if TYPE_CHECKING:
    from evidently.core.report import Snapshot

Array = np.ndarray
SAMPLE_ROWS = 8192
SEED = 0
# Long reasons wrap, and what is too wide scrolls in its own box. Evidently's columns are flex containers that wrap,
# which makes them as wide as their longest line; on a narrow screen they must not.
PHONE_CSS = (
    "body { margin: 0; overflow-wrap: anywhere; } .MuiTable-root { overflow-wrap: normal; } "
    "@media (max-width: 50rem) { "
    ".MuiGrid-container.MuiGrid-direction-xs-column { flex-wrap: nowrap; } "
    ".MuiGrid-root { min-width: 0; } .MuiGrid-direction-xs-column > .MuiGrid-root { max-width: 100%; } "
    ".MuiBox-root, .MuiCardContent-root { padding-left: 4px; padding-right: 4px; } "
    ".MuiTableContainer-root, .js-plotly-plot { max-width: 100%; overflow-x: auto; } }"
)


def snapshot(
    window_columns: Mapping[str, Array],
    reference_columns: Mapping[str, Array],
    profile: Profile,
    verdict: Verdict,
    label: Array,
    *,
    min_labels: int,
    timestamp: datetime,
    pairs: Mapping[str, Pair] | None = None,
) -> tuple[Snapshot, str]:
    """Evidently's snapshot of a window and its HTML page.

    Drift preset with the verdict's methods and thresholds, on rows or, of a large window, on its summary;
    classification (or regression) preset over the labelled rows alone, when there are `min_labels` of them (unlabelled
    rows given to it would be scored as if they had a class). Of more than 8,192 it gets a random sample: what decides
    is the verdict's figure over all of them, at the top of the page.

    Args:
        window_columns: columns of the judged rows (`judge.watched`).
        reference_columns: of the release, `label` included.
        profile, verdict: what is shown on top.
        label: int64 (n,) labels of the judged rows, -1 where none; of a regression float64, NaN where none.
        min_labels: rows below which no classification is shown.
        timestamp: time of the window; Evidently orders its history by it.
        pairs: what the verdict was made from (`drift.compare`), where that is at hand; None: the columns are summed up
            again.

    Raises:
        StateError: Evidently's page would say something else than the verdict.
    """
    engine = evidently()
    name = f"{verdict.kind}: rows {verdict.lo}–{verdict.hi}, version {verdict.version}"
    parts: list[Snapshot] = []
    if pairs is None:
        pairs = pairs_of(window_columns, reference_columns, profile) if verdict.columns else {}
    pair = frames(pairs, verdict.columns, window_columns, reference_columns) if pairs else None
    with quiet():
        if pair is not None and pair.methods:
            parts.append(drift_report(pair, timestamp))
            _same_answer(parts[0], verdict)
        if profile.metric is not None:
            known = np.isfinite(as_numbers(label)) & (profile.classes == 1)
            if known.sum() >= max(1, min_labels):
                parts.append(_regression(window_columns, label, sample(known), reference_columns, timestamp))
        else:
            label = as_classes(label)
            known = (label >= 0) & (label < profile.classes)
            if known.sum() >= max(1, min_labels):
                shown = sample(known)
                now = window_columns[PREDICTED][shown], label[shown]
                then = reference_columns[PREDICTED], reference_columns[LABEL]
                parts.append(classification_report(now, then, timestamp))
        whole = _joined(parts, _header(verdict), name, timestamp, _metadata(verdict), engine)
        return whole, _page(whole.get_html_str(as_iframe=False), name, verdict)


def sample(known: Array, most: int = SAMPLE_ROWS) -> Array:
    """The rows that are shown of these, bool (n,): all up to 8,192, else so many drawn at random from a fixed seed."""
    count = int(np.count_nonzero(known))
    if count <= most:
        return known
    picked = np.zeros(count, bool)
    picked[np.random.default_rng(SEED).choice(count, most, replace=False)] = True
    chosen = known.copy()
    chosen[known] = picked
    return chosen


def drift_report(pair: Frames, timestamp: datetime) -> Snapshot:
    """Evidently's drift preset with our tests and thresholds."""
    engine = evidently()
    preset = engine.DataDriftPreset(
        columns=list(pair.methods),
        # One drifted column is drift; Evidently's default calls a dataset drifted from half of its columns on.
        drift_share=1 / len(pair.methods),
        per_column_method=dict(pair.methods),
        per_column_threshold=dict(pair.limits),
    )
    with drawn_once():
        run: Snapshot = engine.Report([preset]).run(*datasets(pair), timestamp=timestamp)
    return run


def classification_report(now: tuple[Array, Array], then: tuple[Array, Array], timestamp: datetime) -> Snapshot:
    """Evidently's classification preset.

    Args:
        now, then: predicted and true classes (n,) each, of the window and of the reference.
    """
    import pandas as pd

    engine = evidently()
    # Labels only, no probabilities: ROC and log loss are undefined, and raise, when a window holds one class.
    definition = engine.DataDefinition(
        categorical_columns=[LABEL, PREDICTED],
        classification=[engine.MulticlassClassification(target=LABEL, prediction_labels=PREDICTED)],
    )
    tables = [
        engine.Dataset.from_pandas(
            pd.DataFrame({PREDICTED: predicted.astype(str), LABEL: true.astype(str)}), data_definition=definition
        )
        for predicted, true in (now, then)
    ]
    run: Snapshot = engine.Report([engine.ClassificationPreset()]).run(*tables, timestamp=timestamp)
    return run


def _regression(
    window: Mapping[str, Array], label: Array, known: Array, reference: Mapping[str, Array], timestamp: datetime
) -> Snapshot:
    import pandas as pd

    engine = evidently()
    definition = engine.DataDefinition(
        numerical_columns=[LABEL, PREDICTION],
        regression=[engine.Regression(target=LABEL, prediction=PREDICTION)],
    )
    sides = [(window[PREDICTION][known], label[known]), (reference[PREDICTION], reference[LABEL])]
    tables = [
        engine.Dataset.from_pandas(pd.DataFrame({PREDICTION: answered, LABEL: true}), data_definition=definition)
        for answered, true in sides
    ]
    run: Snapshot = engine.Report([engine.RegressionPreset()]).run(*tables, timestamp=timestamp)
    return run


def _same_answer(run: Snapshot, verdict: Verdict) -> None:
    shown = {
        metric["config"]["column"]: float(metric["value"])
        for metric in run.dict()["metrics"]
        if "threshold" in metric["config"] and metric["config"].get("column")
    }
    stated = {column.name: column.score for column in verdict.columns if column.limit is not None}
    absent = float("nan")
    other = sorted(
        name
        for name in {*shown, *stated}
        if not math.isclose(shown.get(name, absent), stated.get(name) or 0.0, rel_tol=1e-9, abs_tol=1e-12)
    )
    if other:
        raise StateError(
            f"Evidently's score of {other[0]} is {shown.get(other[0])}, the verdict's {stated.get(other[0])}",
            where=f"rows {verdict.lo}–{verdict.hi}",
            fix="give the same rows and reference that the verdict was made from",
        )


def _joined(
    parts: list[Snapshot], header: list[Any], name: str, timestamp: datetime, metadata: dict[str, Any], engine: Any
) -> Snapshot:
    model = (
        engine.Report([]).run(*_empty(engine), timestamp=timestamp, name=name, metadata=metadata).to_snapshot_model()
    )
    model.tags = [metadata["verdict"]]
    model.widgets = list(header)
    for part in parts:
        other = part.to_snapshot_model()
        model.metric_results |= other.metric_results
        model.top_level_metrics += other.top_level_metrics
        model.widgets += other.widgets
        model.tests_widgets += other.tests_widgets
    joined: Snapshot = engine.Snapshot.load_model(model)
    return joined


def _empty(engine: Any) -> tuple[Any, None]:
    import pandas as pd

    return engine.Dataset.from_pandas(pd.DataFrame({"row": [0]}), data_definition=engine.DataDefinition()), None


def _metadata(verdict: Verdict) -> dict[str, Any]:
    return {"verdict": verdict.kind, "version": verdict.version, "digest": verdict.digest, "rows": str(verdict.rows)}


def _header(verdict: Verdict) -> list[Any]:
    engine = evidently()
    reasons = "\n".join(f"- {reason}" for reason in verdict.reasons)
    title = f"Verdict: {verdict.kind} (rows {verdict.lo}–{verdict.hi}, version {verdict.version})"
    if verdict.rows > MOST:
        reasons += (
            f"\n- the panels below show {MOST} values a column in random order that have the distribution of all "
            f"{verdict.rows} rows (a plot over the index means nothing), and of labels a sample of rows"
        )
    gathered = {trace.name: trace for trace in verdict.gradual}
    table = [_row(column, gathered.get(column.name)) for column in verdict.columns]
    names = ["column", "kind", "test", "score", "drift from", "p", "over windows, p", "drifted", "what was found"]
    widgets = [engine.text_widget(title=title, text=reasons)]
    return widgets + ([engine.table_data(column_names=names, data=table, title="Columns")] if table else [])


def _row(column: ColumnResult, gathered: Trace | None) -> list[str]:
    gradual = gathered is not None and gathered.drifted
    over = "" if gathered is None or gathered.p is None else f"{gathered.p:.3g} ({gathered.windows} windows)"
    return [
        column.name,
        column.kind,
        column.test or "not tested",
        *("" if value is None else f"{value:.3g}" for value in (column.score, column.limit, column.p)),
        over,
        " and ".join(["yes"] * column.drifted + ["gradually"] * gradual) or "no",
        "; ".join([*([column.change] if column.drifted or gradual else []), *(f.detail for f in column.findings)]),
    ]


def _page(page: str, name: str, verdict: Verdict) -> str:
    # Evidently's template (0.7.23) has no title; ours says the verdict, and so does a meta tag that scripts can read.
    # Nor has it a viewport, so that a phone shows it as a desktop page, too small to read.
    head = (
        f"<title>{html.escape(name)}</title>\n"
        f'<meta name="trimtab-verdict" content="{html.escape(verdict.kind)}">\n'
        f'<meta name="trimtab-digest" content="{verdict.digest}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{PHONE_CSS}</style>\n'
    )
    return page.replace("</head>", f"{head}</head>", 1)
