"""What the tasks of stage 4 hand to the measurements, and what the log says of them: no server, no model."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tasks import verify
from tasks.evidence import Hits
from trimtab.task import CLASSIFICATION, Task
from trimtab.verify.seen import has_seen
from trimtab.verify.slices import compare_slices

LABELS = np.arange(200) % 2


def test_slices_are_of_the_gate_and_compare_with_the_original() -> None:
    wrong = 1 - LABELS
    bench: Any = SimpleNamespace(
        splits={"gate": SimpleNamespace(labels=LABELS), "other": SimpleNamespace(labels=wrong)},
        class_names=["even", "odd"],
        task=CLASSIFICATION,
        slices={"late": np.arange(200) >= 150},
    )
    own = LABELS.copy()
    own[180:190] = wrong[180:190]
    sure = np.eye(2)
    hits = Hits(bench, {"gate": sure[own], "other": sure[wrong]}, {"gate": sure[LABELS], "other": sure[LABELS]}, None)

    found = {one.name: (one.paired.lost, one.paired.difference.n) for one in hits.by_slice(0.95).measured}
    assert found == {"late": (10, 50), "even": (5, 100), "odd": (5, 100)}


def told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, lost: int, validation: int) -> list:
    """Records of the log for a candidate that lost so many odd rows of an original with so many of 200 right."""
    own = np.ones(200, bool)
    own[np.flatnonzero(LABELS == 1)[:lost]] = False
    slices = compare_slices(np.ones(200, bool), own, LABELS, ["even", "odd"], {}, 0.95)
    tried: Any = SimpleNamespace(
        candidate=SimpleNamespace(label="int8"),
        build=SimpleNamespace(target="here"),
        decision=SimpleNamespace(answer="pass", checks=()),
        evidence=SimpleNamespace(slices=slices),
    )
    monkeypatch.setattr(verify, "get_run_logger", lambda: logging.getLogger("told"))
    with caplog.at_level(logging.INFO, logger="told"):
        verify._log([tried], has_seen(np.arange(200) < validation, np.arange(200) < 150, 0.95))
    return [(record.levelno, record.getMessage()) for record in caplog.records]


def test_the_log_names_who_pays_and_warns_of_validation_rows_the_original_has_seen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    warning, _, pays = told(monkeypatch, caplog, lost=30, validation=199)
    assert warning[0] == logging.WARNING
    assert "99.50 % of 200 validation rows and on 75.00 % of 200 gate rows" in warning[1]
    assert pays[0] == logging.INFO
    assert 'pays most is "odd": 100.0 % → 70.0 %' in pays[1]


def test_the_log_says_neither_where_there_is_neither(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert told(monkeypatch, caplog, lost=1, validation=150) == [(logging.INFO, "int8 on here: pass")]


def test_metrics_hold_every_percentile_trust_reasons_and_rates_under_names_of_their_own() -> None:
    from tasks.reporting import _attribution_metrics, _latency_metrics, _trust_metrics, cost_metrics
    from trimtab.candidate import Latency
    from trimtab.compress.search import Point
    from trimtab.verify.reliability import compare_trust

    latency = Latency(32, 1, 0.002, 0.004, 270, 2.0, 1.9, 2.1, 9, p95_s=0.003)
    evidence: Any = SimpleNamespace(latency={32: latency})
    assert _latency_metrics(evidence) == {"p50_ms_b32": 2.0, "p95_ms_b32": 3.0, "p99_ms_b32": 4.0}
    point = Point("c", "here", "x", 0.9, 0.0, {1: 2.0}, 3.0, 1.0, memory_mb=4.0, load_ms=31.0)
    assert cost_metrics([point], ("c", "here")) == {"peak_memory_mb": 4.0, "load_ms": 31.0}
    assert cost_metrics([point], ("c", "there")) == {}
    chances = np.array([[0.8, 0.2], [0.6, 0.4]])
    trust = compare_trust(chances, chances, np.array([0, 1]), 0.95)
    assert _trust_metrics(trust)["calibration_error"] == pytest.approx(0.4)
    assert _trust_metrics(None) == _attribution_metrics(None) == {}


@pytest.mark.parametrize("metric", ["f1", "roc_auc", "log_loss"])
def test_another_metric_of_classes_decides_and_accuracy_and_slices_are_told_beside_it(metric: Any) -> None:
    rng = np.random.default_rng(0)
    base = 0.2 + 0.6 * np.eye(2)[LABELS] + rng.uniform(-0.3, 0.3, (200, 1)) * [1, -1]
    own = base.copy()
    own[180:] = own[180:, ::-1]
    bench: Any = SimpleNamespace(
        splits={"gate": SimpleNamespace(labels=LABELS)},
        task=Task.of(metric),
        class_names=["even", "odd"],
        slices={"late": np.arange(200) >= 180},
    )
    hits = Hits(bench, {"gate": own}, {"gate": base}, {"gate": base})

    paired = hits.against_original(0.95)["gate"]
    assert (paired.name, paired.lost) == (Task.of(metric).name, 20 - paired.gained)
    assert paired.difference.high < 0
    assert (hits.against_champion(0.95) or {})["gate"] == paired
    counted = hits.accuracy(0.95)
    assert counted is not None
    assert (counted.lost, counted.difference.n) == (paired.lost, 200)
    slices = hits.by_slice(0.95)
    assert slices is not None
    assert {one.name for one in slices.measured} == {"late", "even", "odd"}
    assert slices.pays_most is not None
    assert slices.pays_most.paired.name == "accuracy"


def test_numbers_are_paired_by_split_and_by_the_recipe_s_slices_alone() -> None:
    rng = np.random.default_rng(0)
    labels = rng.normal(size=(200, 1))
    base = labels + rng.normal(size=(200, 1))
    own = base.copy()
    own[150:] += 3
    bench: Any = SimpleNamespace(
        splits={"gate": SimpleNamespace(labels=labels)},
        task=Task("regression", "rmse"),
        slices={"late": np.arange(200) >= 150, "early": np.arange(200) < 100},
    )
    hits = Hits(bench, {"gate": own}, {"gate": base}, {"gate": base})

    slices = hits.by_slice(0.95)
    assert slices is not None
    assert [one.name for one in slices.measured] == ["late", "early"]
    assert slices.pays_most is not None
    assert slices.measured[1].paired.difference.value == 0
    assert hits.against_original(0.95)["gate"] == (hits.against_champion(0.95) or {})["gate"]

    bench.slices = {}
    assert hits.by_slice(0.95) is None
