"""Evidently's workspace: one project a release name, one snapshot a window, and a dashboard that draws them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trimtab.monitoring.engine import evidently, quiet

if TYPE_CHECKING:
    from evidently.core.report import Snapshot

# Our metric → title of the panel, Evidently's metric, and which of its values.
PANELS: Mapping[str | None, tuple[str, str, dict[str, str]]] = {
    None: ("Accuracy", "Accuracy", {}),
    "rmse": ("RMSE", "RMSE", {}),
    "mae": ("MAE", "MAE", {"value_type": "mean"}),
    "r2": ("R²", "R2Score", {}),
}


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
