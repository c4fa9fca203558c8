"""What the search leaves in MLflow: a child run a measured shape, the same for the same shape, and the picture."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.search_record import record_search, record_shapes
from trimtab.compress.search.explore import Explored, Measured, Probe
from trimtab.compress.search.record import SearchRecord
from trimtab.compress.search.shape import Shape

FIELD = (
    Explored(0, Shape(), Probe(0.0, {}), 1.0, None, Measured({"int8 on a": {1: 1.0}}, {1: 1.0})),
    Explored(
        *(1, Shape(("b1",), {"c": 0.5}), Probe(0.2, {}), 0.5, 0.6),
        Measured({"int8 on a": {1: 2.0, 32: 2.0}, "fp32 on b": {1: 0.5, 32: 0.5}}, {1: 1.0}),
    ),
    Explored(2, Shape(("b2",)), Probe(0.9, {}), 0.8, 0.8, None),
)


class Recorder:
    def __init__(self) -> None:
        self.children: dict[str, tuple[Any, ...]] = {}
        self.texts: dict[str, str] = {}
        self.figures: list[str] = []

    def child_run(self, run_id: str, key: str, *content: Any) -> str:
        self.children.setdefault(key, content)
        return key

    def log_text(self, run_id: str, text: str, name: str) -> None:
        self.texts[name] = text

    def log_figure(self, run_id: str, figure: Any, name: str) -> None:
        self.figures.append(name)


class Run:
    def __init__(self) -> None:
        self.run_id, self.tracking, self.search = "r", Recorder(), None


def test_each_measured_shape_is_one_child_run_with_its_figures_however_often_it_is_recorded() -> None:
    run: Any = Run()
    for _ in range(2):
        record_shapes(run, SearchRecord(FIELD, (), 0.0, None, (0.02,), 0.9), "host")

    children = {content[0]: content[1:] for content in run.tracking.children.values()}
    assert len(run.tracking.children) == 2  # the third was spared
    params, metrics, tags = children[f"{FIELD[1].shape.label}, explored"]
    assert params == {
        "methods": "shorten prune",
        "shape": FIELD[1].shape.key,
        "precision.a": "int8",
        "precision.b": "fp32",
    }
    assert metrics == {
        "divergence": 0.2,
        "latency_before_training": 0.5,
        "latency_predicted": 0.6,
        "latency.a": pytest.approx(0.5),
        "latency.b": pytest.approx(2.0),
    }
    assert tags == {"trimtab.shape": FIELD[1].shape.key}
    assert children["uncut, explored"][0]["methods"] == "none"


def test_latencies_of_another_host_are_child_runs_of_their_own() -> None:
    run: Any = Run()
    for host in ("one", "other"):
        record_shapes(run, SearchRecord(FIELD, (), 0.0, None, (0.02,), 0.9), host)
    assert len(run.tracking.children) == 4


def test_the_search_is_an_artifact_a_picture_and_at_hand_for_the_report() -> None:
    run, record = Run(), SearchRecord(FIELD, (), 0.0, None, (0.02,), 0.9)
    record_search(run, {"lanes": ["int8 on a"], "trials": []}, record)  # type: ignore[arg-type]
    assert json.loads(run.tracking.texts["search.json"]) == {"lanes": ["int8 on a"], "trials": [], "trained": []}
    assert run.tracking.figures == ["plots/search.png"]
    assert run.search is record
