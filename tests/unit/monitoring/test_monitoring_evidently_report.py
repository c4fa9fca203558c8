from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import monitoring_world as world
import numpy as np
import pytest

from trimtab.errors import StateError
from trimtab.monitoring.engine import evidently
from trimtab.monitoring.evidently_report import snapshot
from trimtab.monitoring.judge import judge, watched
from trimtab.monitoring.windows import answered
from trimtab.monitoring.workspace import add_to_workspace
from trimtab.recipe.drift import ColumnRule, Drift, ForNumbers
from trimtab.recipe.schema import Monitoring

PROFILE, REFERENCE = world.release()
WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def page_of(window: world.FakeWindow, min_labels: int = 50, monitoring: Monitoring = world.MONITORING):
    verdict = judge(window, PROFILE, REFERENCE, monitoring)
    rows = answered(window)
    shown, html = snapshot(
        watched(rows, PROFILE),
        REFERENCE,
        PROFILE,
        verdict,
        rows.label,
        min_labels=min_labels,
        timestamp=WHEN,
    )
    return verdict, shown, html


def metric_names(shown) -> str:
    return " ".join(metric["metric_name"] for metric in shown.dict()["metrics"])


def test_the_page_says_the_verdict_and_evidently_says_the_same(tmp_path: Path) -> None:
    verdict, shown, html = page_of(world.window(contrast=0.5, accuracy=0.7))
    assert "<title>drift+damage: rows 1000–1200, version 3</title>" in html
    assert f'content="{verdict.digest}"' in html
    assert "Dataset Drift is detected" in html
    model = shown.to_snapshot_model()
    assert model.widgets[0].title.startswith("Verdict: drift+damage")
    metrics = {m["config"].get("column"): m for m in shown.dict()["metrics"] if "threshold" in m["config"]}
    for column in verdict.columns:
        assert metrics[column.name]["value"] == pytest.approx(column.score)
        assert metrics[column.name]["config"]["threshold"] == column.limit
    drifted_count = next(m for m in shown.dict()["metrics"] if m["metric_name"].startswith("DriftedColumnsCount"))
    assert drifted_count["value"]["count"] == len(verdict.drifted)


def test_the_page_scores_labelled_rows_only_and_loads_nothing_from_elsewhere() -> None:
    window = world.window()
    window.label[100:] = -1
    verdict, shown, html = page_of(window)
    accuracy = next(m for m in shown.dict()["metrics"] if m["metric_name"].startswith("Accuracy"))
    assert verdict.performance.accuracy is not None
    assert accuracy["value"] == pytest.approx(verdict.performance.accuracy.value)
    head = html[: html.index("</head>")]
    assert "<title>healthy" in head
    assert 'src="http' not in html
    assert "<link" not in head
    assert '<meta name="viewport" content="width=device-width' in head
    assert "overflow-x: auto" in head


def test_too_few_labels_leave_the_classification_out_and_one_class_does_not_stop_it() -> None:
    window = world.window(n=25)
    window.label[:] = 0
    assert "Accuracy" not in metric_names(page_of(window, min_labels=26)[1])
    assert "Accuracy" in metric_names(page_of(window, min_labels=25)[1])


def test_a_window_that_was_not_judged_has_a_page_that_says_so() -> None:
    verdict, shown, html = page_of(world.window(n=8))
    assert verdict.kind == "not_enough_rows"
    assert "<title>not_enough_rows" in html
    assert shown.dict()["metrics"] == []


def test_an_empty_column_is_on_the_page_and_the_others_are_tested() -> None:
    window = world.window()
    window.inputs["input"][:] = np.inf
    verdict, shown, html = page_of(window)
    assert verdict.kind == "data_quality"
    assert "no data: none of 200" in html
    assert "ValueDrift(column=confidence" in metric_names(shown)
    assert "ValueDrift(column=input.mean" not in metric_names(shown)


def test_a_page_of_other_rows_than_the_verdict_s_is_refused() -> None:
    verdict = judge(world.window(), PROFILE, REFERENCE, world.MONITORING)
    rows = answered(world.window(seed=2))
    with pytest.raises(StateError, match="Evidently's score of"):
        snapshot(watched(rows, PROFILE), REFERENCE, PROFILE, verdict, rows.label, min_labels=50, timestamp=WHEN)


def test_every_method_has_the_same_score_in_evidently() -> None:
    numeric = [column.name for column in PROFILE.columns if column.kind == "numeric"]
    methods = dict(zip(numeric, get_args(ForNumbers), strict=False))
    rules = Drift(
        categorical="chisquare", columns={name: ColumnRule(method=method) for name, method in methods.items()}
    )
    verdict, shown, _ = page_of(world.window(contrast=0.5), monitoring=Monitoring(drift=rules))
    assert {column.test for column in verdict.columns} == set(get_args(ForNumbers))
    count = next(m for m in shown.dict()["metrics"] if m["metric_name"].startswith("DriftedColumnsCount"))
    assert count["value"]["count"] == len(verdict.drifted) > 0


def test_a_large_window_is_shown_by_its_summary_with_the_scores_of_the_verdict() -> None:
    verdict, shown, html = page_of(world.window(n=20_000))
    assert "8192 values a column in random order that have the distribution of all 20000 rows" in html
    accuracy = next(m for m in shown.dict()["metrics"] if m["metric_name"].startswith("Accuracy"))
    assert verdict.performance.accuracy.n == 20_000
    assert accuracy["value"] == pytest.approx(verdict.performance.accuracy.value, abs=0.02)


def test_every_column_is_drawn_once_on_the_page_and_not_again_for_its_metric() -> None:
    verdict, shown, html = page_of(world.window(contrast=0.5))
    model = shown.to_snapshot_model()
    of_columns = [one for one in model.metric_results.values() if one.display_name.startswith("Value drift for")]
    assert len(of_columns) == len(verdict.columns)
    assert not [one.display_name for one in of_columns if "layout" in str(one.widget)]
    assert html.count("DATA DISTRIBUTION") == len(verdict.columns)


def test_snapshots_gather_in_one_project_with_the_windows_time(tmp_path: Path) -> None:
    _, shown, _ = page_of(world.window(n=8))
    first, second = (add_to_workspace(tmp_path / "workspace", "digits", shown) for _ in range(2))
    other = add_to_workspace(tmp_path / "workspace", "tabular", shown)
    assert first.split("/")[0] == second.split("/")[0] != other.split("/")[0]
    store = evidently().Workspace(str(tmp_path / "workspace"))
    assert sorted(project.name for project in store.list_projects()) == ["digits", "tabular"]
    project, run = first.split("/")
    dashboard = store.get_project(project).dashboard.model()
    values = [(panel.title, value.metric, value.metric_labels) for panel in dashboard.panels for value in panel.values]
    assert values == [
        ("Accuracy", "evidently:metric_v2:Accuracy", {}),
        ("Drifted columns", "evidently:metric_v2:DriftedColumnsCount", {"value_type": "count"}),
    ], "a second snapshot must not add panels"
    assert [panel.id for panel in dashboard.panels] == dashboard.tabs[0].panels
    assert "digits" in store.get_project(project).description
    assert len(store.list_runs(project)) == 2
    stored = json.loads((tmp_path / "workspace" / project / "snapshots" / f"{run}.json").read_text())
    assert stored["timestamp"].startswith("2026-01-02T03:04:05")
    assert stored["metadata"]["verdict"] == "not_enough_rows"
