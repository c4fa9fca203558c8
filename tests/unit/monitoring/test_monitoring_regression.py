"""Watching a regression: drift of its answers, damage by its metric, and labels that are numbers in the journal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trimtab.errors import ProtocolError
from trimtab.journal import reader
from trimtab.journal.compact import compact
from trimtab.journal.rows import LabelRow, Row
from trimtab.journal.wal import Journal
from trimtab.monitoring import profile as profiles
from trimtab.monitoring.judge import judge
from trimtab.monitoring.performance import measure_numbers
from trimtab.monitoring.verdict import Verdict
from trimtab.recipe.schema import Monitoring
from trimtab.retrain import divide
from trimtab.serving.labels import parse_labels
from trimtab.task import Task

Array = np.ndarray
N = 120
MONITORING = Monitoring()


def sample(seed: int, error: float = 1.0) -> tuple[dict[str, Array], Array, Array]:
    """Inputs, answers and labels of a release."""
    rng = np.random.default_rng(seed)
    inputs = {"input": rng.normal(size=(N, 2)).astype(np.float32)}
    labels = inputs["input"].sum(1, keepdims=True) * 10
    return inputs, (labels + error * rng.normal(size=(N, 1))).astype(np.float32), labels


def profile(metric: str = "rmse") -> tuple[profiles.Profile, dict[str, Array]]:
    return profiles.build(*sample(0), task=Task("regression", metric))  # type: ignore[arg-type]


def journalled(folder: Path, seed: int, *, error: float = 1.0, shift: float = 0.0, labelled: int = N) -> Any:
    inputs, answers, labels = sample(seed, error)
    journal = Journal(folder)
    for i in range(N):
        values = {"input": inputs["input"][i]}
        journal.submit([Row(f"r{i}", 0, 1 + i, "1", values, answers[i] + shift, 0, float("nan"), 1.0)]).result()
    if labelled:
        journal.submit_labels([LabelRow(f"r{i}", 0, float(labels[i, 0]), 10**9) for i in range(labelled)]).result()
    journal.close()
    return labels


@pytest.mark.parametrize("compacted", [False, True])
def test_labels_that_are_numbers_come_back_from_the_journal_as_they_are(tmp_path: Path, compacted: bool) -> None:
    labels = journalled(tmp_path, 1, labelled=50)
    if compacted:
        compact(tmp_path)
    window = reader.window(tmp_path, 0, N)
    np.testing.assert_array_equal(window.label[:50], labels[:50, 0].astype(float))
    assert np.isnan(window.label[50:]).all()
    assert window.labelled == 50


@pytest.mark.parametrize(
    ("change", "kind"),
    [({}, "healthy"), ({"error": 3.0}, "damage"), ({"shift": 40.0, "labelled": 0}, "drift")],
    ids=["alike", "errors", "shifted"],
)
def test_a_window_is_judged_by_answers_and_errors(tmp_path: Path, change: dict[str, Any], kind: str) -> None:
    known, reference = profile()
    journalled(tmp_path, 2, **change)
    verdict = judge(reader.window(tmp_path, 0, N), known, reference, MONITORING)
    assert verdict.kind == kind
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))).digest == verdict.digest
    assert "RMSE" in verdict.reasons[-1]


def test_the_profile_watches_the_answer_as_a_number_and_survives_json() -> None:
    known, reference = profile("mae")
    answer = known.columns[-1]
    assert (answer.name, answer.kind) == ("prediction", "numeric")
    assert profiles.Profile.from_json(json.loads(json.dumps(known.to_json()))) == known
    assert set(reference) == {column.name for column in known.columns} | {"label"}


@pytest.mark.parametrize(("metric", "limit"), [("rmse", 1.1), ("r2", 0.8)])
def test_the_limit_is_relative_for_an_error_and_absolute_for_r2(metric: str, limit: float) -> None:
    from trimtab.candidate import Interval

    _, answers, labels = sample(3)
    verified = Interval(1.0 if metric == "rmse" else 0.9, 0, 0, N)
    found = measure_numbers(answers, labels[:, 0], metric, verified, 0.1, 50)  # type: ignore[arg-type]
    assert found.limit == pytest.approx(limit)
    assert found.answer in ("ok", "undecided")


def test_labels_of_the_protocol_are_finite_numbers_of_one_output() -> None:
    def parse(label: str, outputs: int = 1) -> list[LabelRow]:
        return parse_labels(f'[{{"request_id": "a", "label": {label}}}]'.encode(), "application/json", outputs, True)

    assert [row.label for row in (*parse("3"), *parse("-2.5"))] == [3.0, -2.5]
    for bad in ("true", '"3"', "1e300", "null"):
        with pytest.raises(ProtocolError, match="finite number"):
            parse(bad)
    with pytest.raises(ProtocolError, match="labels of 2 outputs are not taken"):
        parse("3", outputs=2)


def test_a_retrain_gets_the_labelled_numbers_as_one_column() -> None:
    labels = np.where(np.arange(300) % 3 == 0, np.nan, np.arange(300.0))
    ids = [f"r{i}" for i in range(300)]
    found = divide({"input": np.zeros((300, 2), np.float32)}, labels, ids, 0.3, "v")
    assert sum(len(part) for part in (found.train, found.validation, found.held_out)) == 200
    assert found.train.labels.shape == (len(found.train), 1)
    assert found.train.labels.dtype == np.float32


def test_evidently_s_page_shows_the_regression_on_labelled_rows_alone(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    from trimtab.monitoring.evidently_report import snapshot
    from trimtab.monitoring.judge import watched
    from trimtab.monitoring.windows import answered

    known, reference = profile()
    labels = journalled(tmp_path, 2, error=3.0, labelled=80)
    window = reader.window(tmp_path, 0, N)
    rows, verdict = answered(window), judge(window, known, reference, MONITORING)
    settings = {"min_labels": 50, "timestamp": datetime(2026, 1, 1, tzinfo=UTC)}
    taken, page = snapshot(watched(rows, known), reference, known, verdict, rows.label, **settings)  # type: ignore[arg-type]

    expected = float(np.sqrt(np.mean(np.square(window.output[:80] - labels[:80]))))
    found = {metric["metric_name"]: metric["value"] for metric in taken.dict()["metrics"]}
    assert next(value for name, value in found.items() if name.startswith("RMSE")) == pytest.approx(expected, rel=1e-6)
    assert "Verdict: damage" in page
