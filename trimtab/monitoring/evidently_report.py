"""The page of a verdict: Evidently's own report, with our verdict on top of it and the same tests behind both."""

from __future__ import annotations

import html
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trimtab.errors import StateError
from trimtab.monitoring.columns import PREDICTED, PREDICTION
from trimtab.monitoring.drift import datasets
from trimtab.monitoring.engine import evidently, quiet
from trimtab.monitoring.frames import Frames, frames
from trimtab.monitoring.judge import as_classes, as_numbers
from trimtab.monitoring.profile import LABEL, Profile
from trimtab.monitoring.verdict import Verdict

if TYPE_CHECKING:
    from evidently.core.report import Snapshot

Array = np.ndarray
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

# Our metric → title of the panel, Evidently's metric, and which of its values.
PANELS: Mapping[str | None, tuple[str, str, dict[str, str]]] = {
    None: ("Accuracy", "Accuracy", {}),
    "rmse": ("RMSE", "RMSE", {}),
    "mae": ("MAE", "MAE", {"value_type": "mean"}),
    "r2": ("R²", "R2Score", {}),
}


def snapshot(
    window_columns: Mapping[str, Array],
    reference_columns: Mapping[str, Array],
    profile: Profile,
    verdict: Verdict,
    label: Array,
    *,
    alpha: float,
    min_labels: int,
    timestamp: datetime,
) -> tuple[Snapshot, str]:
    """Evidently's snapshot of a window and its HTML page.

    Drift preset with the verdict's methods and thresholds; classification (or regression) preset over the labelled rows
    alone, when there are `min_labels` of them (unlabelled rows given to it would be scored as if they had a class).

    Args:
        window_columns: columns of the judged rows (`judge.watched`).
        reference_columns: of the release, `label` included.
        profile, verdict: what is shown on top.
        label: int64 (n,) labels of the judged rows, -1 where none; of a regression float64, NaN where none.
        alpha: the family-wise level the verdict was made at.
        min_labels: rows below which no classification is shown.
        timestamp: time of the window; Evidently orders its history by it.

    Raises:
        StateError: Evidently's page would say something else than the verdict.
    """
    engine = evidently()
    name = f"{verdict.kind}: rows {verdict.lo}–{verdict.hi}, version {verdict.version}"
    parts: list[Snapshot] = []
    pair = frames(window_columns, reference_columns, profile, alpha) if verdict.columns else None
    with quiet():
        if pair is not None and pair.methods:
            parts.append(_drift(pair, timestamp))
            _same_answer(parts[0], verdict)
        if profile.metric is not None:
            known = np.isfinite(as_numbers(label)) & (profile.classes == 1)
            if known.sum() >= max(1, min_labels):
                parts.append(_regression(window_columns, label, known, reference_columns, timestamp))
        else:
            label = as_classes(label)
            known = (label >= 0) & (label < profile.classes)
            if known.sum() >= max(1, min_labels):
                parts.append(_classification(window_columns, label, known, reference_columns, timestamp))
        whole = _joined(parts, _header(verdict), name, timestamp, _metadata(verdict), engine)
        return whole, _page(whole.get_html_str(as_iframe=False), name, verdict)


def add_to_workspace(workspace: Path, project: str, snapshot: Snapshot, metric: str | None = None) -> str:
    """Add a snapshot to a local Evidently workspace, where `evidently ui` shows the history.

    A project is found by its name and made when there is none; two callers at once could make two, so hold a lock.

    Args:
        workspace: its folder; made if it is not there.
        project: name of the project: the release's name.
        snapshot: from `snapshot`; its time is the one given there.
        metric: of a regression, what a new project's dashboard draws; None: accuracy.

    Returns:
        "<project id>/<snapshot id>".
    """
    engine = evidently()
    with quiet():
        workspace.mkdir(parents=True, exist_ok=True)
        store = engine.Workspace.create(str(workspace))
        # Two of one name can be left by a crash of somebody without the lock: the oldest (ids are UUIDv7) is kept to.
        found = sorted(store.search_project(project), key=lambda entry: str(entry.id))
        target = found[0] if found else _new_project(store, project, metric)
        reference = store.add_run(target.id, snapshot)
    return f"{target.id}/{reference.id}"


def _new_project(store: Any, name: str, metric: str | None) -> Any:
    """A project whose dashboard draws the windows; Evidently makes it without a panel, which is an empty page."""
    from evidently.sdk.models import PanelMetric
    from evidently.sdk.panels import line_plot_panel

    made = store.create_project(
        name, description=f"Windows of what {name} answered, each compared with its release's reference rows."
    )
    title, drawn, value = PANELS[metric]
    legend = "accuracy" if metric is None else title
    panels = [
        line_plot_panel(
            title,
            [PanelMetric(metric=drawn, metric_labels=value, legend=f"{legend} on labelled rows")],
            description="Windows with enough labels only.",
        ),
        line_plot_panel(
            "Drifted columns",
            [PanelMetric(metric="DriftedColumnsCount", metric_labels={"value_type": "count"}, legend="columns")],
            # Evidently draws a metric with other parameters as another series.
            description="Watched columns that differ from the release's reference rows; one is drift. A line of "
            "another colour begins with a release whose columns need other tests.",
        ),
    ]
    for panel in panels:
        made.dashboard.add_panel(panel)
    return made


def _drift(pair: Frames, timestamp: datetime) -> Snapshot:
    engine = evidently()
    preset = engine.DataDriftPreset(
        columns=list(pair.methods),
        # One drifted column is drift; Evidently's default calls a dataset drifted from half of its columns on.
        drift_share=1 / len(pair.methods),
        per_column_method=dict(pair.methods),
        per_column_threshold=dict.fromkeys(pair.methods, pair.threshold),
    )
    run: Snapshot = engine.Report([preset]).run(*datasets(pair), timestamp=timestamp)
    return run


def _classification(
    window: Mapping[str, Array], label: Array, known: Array, reference: Mapping[str, Array], timestamp: datetime
) -> Snapshot:
    import pandas as pd

    engine = evidently()
    # Labels only, no probabilities: ROC and log loss are undefined, and raise, when a window holds one class.
    definition = engine.DataDefinition(
        categorical_columns=[LABEL, PREDICTED],
        classification=[engine.MulticlassClassification(target=LABEL, prediction_labels=PREDICTED)],
    )
    sides = [(window[PREDICTED][known], label[known]), (reference[PREDICTED], reference[LABEL])]
    tables = [
        engine.Dataset.from_pandas(
            pd.DataFrame({PREDICTED: predicted.astype(str), LABEL: true.astype(str)}), data_definition=definition
        )
        for predicted, true in sides
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
    metrics = [metric for metric in run.dict()["metrics"] if "threshold" in metric["config"]]
    drifted = {
        metric["config"]["column"]
        for metric in metrics
        if metric["config"].get("column") and float(metric["value"]) <= metric["config"]["threshold"]
    }
    if drifted != set(verdict.drifted):
        raise StateError(
            f"Evidently finds drift in {sorted(drifted)}, the verdict in {sorted(verdict.drifted)}",
            where=f"rows {verdict.lo}–{verdict.hi}",
            fix="give the same rows, reference and alpha that the verdict was made from",
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
    table = [
        [
            column.name,
            column.kind,
            column.test or "not tested",
            "" if column.p is None else f"{column.p:.3g}",
            f"{column.threshold:.3g}",
            "yes" if column.drifted else "no",
            "; ".join([*([column.change] if column.drifted else []), *(f.detail for f in column.findings)]),
        ]
        for column in verdict.columns
    ]
    names = ["column", "kind", "test", "p", "drift at p ≤", "drifted", "what was found"]
    widgets = [engine.text_widget(title=title, text=reasons)]
    return widgets + ([engine.table_data(column_names=names, data=table, title="Columns")] if table else [])


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
