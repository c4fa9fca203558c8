"""The picture of the search: every shape once, spared ones hollow with their error, lines to the drops, the noise."""

from __future__ import annotations

import json

import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import same_color
from matplotlib.figure import Figure

from trimtab.candidate import Step
from trimtab.compress.search.course import CONTROL, Way
from trimtab.compress.search.explore import Explored, Measured, Probe
from trimtab.compress.search.halving import Runner
from trimtab.compress.search.record import SearchRecord, trial_from_json, trial_to_json, won_by_target
from trimtab.compress.search.shape import Shape
from trimtab.verify import exploration, report
from trimtab.verify.gate import decide


def seen(name: str, latency: float, divergence: float, measured: bool = True, target: str = "a") -> Explored:
    found = Measured({f"int8 on {target}": {1: 1 / latency}, "fp32 on b": {1: 0.5}}, {1: 1.02}) if measured else None
    return Explored(3, Shape((name,)), Probe(divergence, {"macs": 0.5}), latency, 0.5, found)


FIELD = (
    Explored(0, Shape(), Probe(0.0, {"macs": 1.0}), 1.0, None, Measured({"int8 on a": {1: 1.0}}, {1: 1.0})),
    seen("one", 0.6, 0.02),
    seen("two", 0.4, 0.3),
    seen("three", 0.7, 0.9, measured=False),
)
STEPS = (Step("shorten", {"label": "shorten-1.abc"}), Step("distil", {"label": "distil-3"}, 0))
WAYS = (
    Way(Runner(FIELD[1].shape.key, 0.6, (0.03, 0.01), (1, 2)), STEPS),
    Way(Runner(FIELD[2].shape.key, 0.4, (0.09,), (1,)), STEPS),
    Way(Runner(CONTROL, 1.0, (0.0, 0.0), (1, 2)), STEPS[1:]),
)
RECORD = SearchRecord(FIELD, WAYS, 0.05, 0.1, (0.02,), 0.9)


@pytest.fixture(scope="module")
def drawing() -> Figure:
    drawing = exploration.figure(RECORD)
    drawing.draw_without_rendering()
    return drawing


def test_measured_shapes_are_filled_and_spared_ones_hollow_with_the_error_of_the_model(drawing: Figure) -> None:
    upper = drawing.axes[0]
    dots = sorted(tuple(dot.get_offsets()[0]) for dot in upper.collections if isinstance(dot, PathCollection))
    assert dots == [(0.4, 0.3), (0.6, 0.02), (1.0, 0.0)]
    rings, _, (bar,) = upper.containers[0].lines
    assert same_color(rings.get_markerfacecolor(), "none")
    assert list(rings.get_xydata()[0]) == [0.7, 0.9]
    (start, _), (end, _) = bar.get_segments()[0]
    assert (start, end) == (pytest.approx(0.63), pytest.approx(0.77))  # ten per cent of 0.7 either way


def test_each_trained_shape_has_a_line_to_its_drops_in_points(drawing: Figure) -> None:
    lower = drawing.axes[1]
    paths = [line.get_xydata().round(6).tolist() for line in lower.lines]
    assert [[0.6, 3.0], [0.6, 1.0]] in paths
    assert [[0.4, 9.0]] in paths
    joined = sorted((patch.xy1, patch.xy2) for patch in drawing.artists)
    assert joined == [((0.4, 0.3), (0.4, 9.0)), ((0.6, 0.02), (0.6, 3.0))]  # the control was not explored
    first, second = next(dots for dots in lower.collections if len(dots.get_offsets()) == 2).get_sizes()
    assert first < second


def test_the_noise_floor_is_shaded_around_the_uncut_in_both_panels_and_said(drawing: Figure) -> None:
    for axes in drawing.axes:
        (band,) = axes.patches
        assert band.get_x() == pytest.approx(1 / 1.05)
        assert band.get_x() + band.get_width() == pytest.approx(1.05)
    said = [text.get_text() for text in drawing.legends[0].get_texts()]
    assert said == ["int8 on a", "spared, ± 10 %", "noise floor, 5.0 %", "drop allowed", "after a rung; area: epochs"]


def test_without_training_or_a_latency_model_it_is_drawn_all_the_same() -> None:
    assert len(exploration.figure(SearchRecord(FIELD[:3], (), 0.05, None, (0.02,), 0.9)).axes) == 1


def test_a_shape_survives_json_and_the_fastest_lane_of_each_target_is_known() -> None:
    for one in FIELD:
        assert trial_from_json(json.loads(json.dumps(trial_to_json(one)))) == one
    assert FIELD[1].measured is not None
    won = won_by_target(FIELD[1].measured)
    assert {target: (one.precision, one.latency) for target, one in won.items()} == {
        "a": ("int8", pytest.approx(0.6)),
        "b": ("fp32", pytest.approx(2.0)),
    }


def test_the_report_shows_the_search_where_there_was_one(make_evidence, points: list, meta: dict) -> None:
    evidence = make_evidence()
    decision = decide(evidence, meta["budget"], 0.95)
    searched = {**meta, "search": RECORD}
    page = report.render("t", evidence, decision, points, [], searched)
    part = " ".join(page.split("What the search saw")[1].split("<h2>")[0].split())
    assert "4 shapes were tried before any was trained, 3 of them measured" in part
    assert part.count("data:image/png;base64,") == 1
    assert len(page.encode()) <= 2_000_000
    value = json.loads(json.dumps(report.as_json("t", evidence, decision, points, [], searched), allow_nan=False))
    assert value["search"]["trials"][0]["label"] == "uncut"
    assert "What the search saw" not in report.render("t", evidence, decision, points, [], meta)
