"""The report: whole in one file, small, escaped, and saying the same as its JSON; figures that hold what was given."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure

from trimtab.compress.search import Point
from trimtab.recipe.schema import Budget
from trimtab.verify import confusion, pareto
from trimtab.verify.evidence import Evidence
from trimtab.verify.gate import decide
from trimtab.verify.report import SLICES_SHOWN, as_json, original_on, render, sentence
from trimtab.verify.seen import has_seen
from trimtab.verify.slices import compare_slices

Make = Callable[..., Evidence]


@pytest.fixture(scope="module")
def page(make_evidence: Make, points: list, meta: dict) -> str:
    evidence = make_evidence(champion=(3, 9), today=(5, 60), must_improve="today")
    return render("digits <b>&", evidence, decide(evidence, meta["budget"], 0.95), points, points[-4:], meta)


def test_the_page_needs_no_network_and_is_small(page: str) -> None:
    words = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", page)
    assert not re.search(r"https?:|//[a-z]|<link|<script|@import|url\(", words)
    assert set(re.findall(r'(?:src|href)="(.{0,22})', page)) == {"data:image/png;base64,"}
    assert len(page.encode()) <= 2_000_000
    assert page.count('src="data:image/png;base64,') == 3
    assert 'name="viewport"' in page


def test_what_others_wrote_is_escaped(page: str) -> None:
    for hostile in ("<b>&", "<script>x", "<img src=x>", "<b>detail"):
        assert hostile not in page
    assert "&lt;script&gt;x&lt;/script&gt;" in page


def test_every_element_is_closed(page: str) -> None:
    class Nesting(HTMLParser):
        void = frozenset({"meta", "br", "img"})

        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: list) -> None:
            if tag not in self.void:
                self.open.append(tag)

        def handle_startendtag(self, tag: str, attrs: list) -> None:
            pass

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    parser = Nesting()
    parser.feed(page)
    assert parser.open == []


def test_the_outcome_comes_first_in_plain_words(page: str) -> None:
    text = re.sub(r"<[^>]+>", " ", page.split("<body>")[1])
    first = " ".join(text.split())[:280]
    assert (
        "PASS: 2.3x faster than eager PyTorch at batch 1 (the uncompressed original on openvino-cpu: 1.7x, on "
        "validation), 3.1x smaller, accuracy on gate 98.2 % (98.6 % before)."
    ) in first


def test_the_original_is_compared_only_where_it_was_measured_and_is_not_the_candidate(
    make_evidence: Make, points: list, meta: dict
) -> None:
    evidence = make_evidence()
    assert original_on(points, evidence, meta) == ("openvino-cpu", pytest.approx(1.7))
    assert original_on(points, evidence, {**meta, "target": "elsewhere"}) is None
    assert original_on(points, evidence, {**meta, "candidate": "c0", "label": "original"}) is None
    assert original_on([], evidence, meta) is None
    assert "original on" not in sentence(evidence, decide(evidence, Budget(), 0.95))


def test_a_phone_gets_fewer_columns_and_a_scroll_shadow(page: str) -> None:
    narrow = re.search(r"@media \(max-width: 30rem\) \{ ([^{]+)\{ display: none; \} \}", page)
    assert narrow is not None
    assert narrow.group(1).strip() == ".roomy"
    for header in ("McNemar p", "noise<br>floor", "calls"):
        assert f'<th class="roomy">{header}</th>' in page
    for table in re.findall(r"<table>.*?</table>", page, re.DOTALL):
        widths = {row.count("</td>") + row.count("</th>") for row in table.split("</tr>")[:-1]}
        hidden = {row.count('class="roomy"') for row in table.split("</tr>")[:-1]}
        assert len(widths) == len(hidden) == 1, "a row that hides other cells than its header shifts its figures"
    assert "linear-gradient" in re.search(r"\.wide \{[^}]+\}", page).group()


def test_point_interval_margin_spread_and_noise_floor_are_all_there(page: str) -> None:
    for figure in (
        "−0.40",
        "−1.66 to +0.73",
        "−3.00",
        "2.07x – 2.53x",
        "±5.0 %",
        "4 / 2",
        "2.13.0",
        "calibration_rows = 200",
    ):
        assert figure in page, figure
    assert page.count('<tr class="winner"><td>prune-l2-0.5 distil int8 ◀') == 1


def test_a_failure_names_what_is_not_met(make_evidence: Make) -> None:
    evidence = make_evidence(speedup=0.5)
    said = sentence(evidence, decide(evidence, Budget(), 0.95))
    assert said.startswith("FAIL: 2.0x slower than eager PyTorch at batch 1")
    assert said.endswith("not met: speed-up at batch 1.")


def test_an_open_decision_says_how_many_rows_are_missing(make_evidence: Make) -> None:
    evidence = make_evidence(speedup=1.02)
    decision = decide(evidence, Budget(max_drop=0.01), 0.95)
    said = sentence(evidence, decision)
    assert said.startswith("UNDECIDED: no faster than eager PyTorch at batch 1")
    assert f"{decision.needed_rows:,} more rows" in said


def test_the_json_holds_the_same_content(make_evidence: Make, points: list, meta: dict) -> None:
    evidence = make_evidence()
    decision = decide(evidence, meta["budget"], 0.95)
    value = json.loads(json.dumps(as_json("digits", evidence, decision, points, points[:2], meta), allow_nan=False))
    assert value["summary"] == sentence(evidence, decision, original=original_on(points, evidence, meta))
    assert Evidence.from_json(value["evidence"]) == evidence
    assert value["confusion"]["after"][8][1] == 3
    assert [one["label"] for one in value["points"]] == [one["label"] for one in points]


def test_a_report_without_candidates_or_with_a_hundred_classes_still_renders(make_evidence: Make, meta: dict) -> None:
    many = np.random.default_rng(0).integers(0, 50, (100, 100))
    wide = {**meta, "labels": [f"class {i}" for i in range(100)], "confusion_before": many, "confusion_after": many}
    evidence = make_evidence()
    page = render("many", evidence, decide(evidence, meta["budget"], 0.95), [], [], wide)
    assert len(page.encode()) <= 2_000_000


def test_confusion_counts_true_classes_in_rows() -> None:
    matrix = confusion.counts(np.array([0, 0, 2, 2]), np.array([0, 1, 2, 0]), 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 1]]


def test_a_confusion_figure_writes_every_count_that_is_not_zero() -> None:
    drawing = confusion.figure(np.array([[5, 2], [0, 7]]), ["a", "b"], "before")
    assert isinstance(drawing, Figure)
    assert sorted(text.get_text() for text in drawing.axes[0].texts) == ["2", "5", "7"]


def test_the_pareto_figure_shows_every_point_and_names_the_winner(points: list) -> None:
    drawing = pareto.figure(points, points[:2], Budget(), ("c3", "openvino-cpu"))
    assert drawing.axes[0].get_title().startswith("chosen: prune-l2-0.5 distil int8\non openvino-cpu")
    assert not drawing.axes[0].texts, "a text among the points covers some"
    # each point, the original, the ring around the winner, the region of the budget
    assert len(drawing.axes[0].collections) == len(points) + 3


def crowd(points: list) -> list[dict]:
    """Points within 0.8 points of accuracy, 1x to 12x as fast."""
    return [
        {**points[0], "candidate": f"c{i}", "accuracy": 0.99 - 0.0002 * i, "drop": 0.0002 * i, "speedup": {"1": 1 + i}}
        for i in range(12)
    ]


def test_a_floor_far_below_the_points_is_named_and_does_not_press_them_together(points: list) -> None:
    drawing = pareto.figure(crowd(points), [], Budget(max_drop=0.042, min_speedup=1.0))
    low, high = drawing.axes[0].get_ylim()
    assert high - low < 1
    legend = [text.get_text() for text in drawing.legends[0].get_texts()]
    assert "within budget (floor 94.8 % below the axis)" in legend
    near = pareto.figure(crowd(points), [], Budget(max_drop=0.003, min_speedup=1.0))
    assert near.axes[0].get_ylim()[0] < 98.7
    assert "within budget" in [text.get_text() for text in near.legends[0].get_texts()]


def test_a_logarithmic_axis_has_ticks_one_can_read(points: list) -> None:
    drawing = pareto.figure(crowd(points), [], Budget(max_drop=0.03, min_speedup=1.0))
    drawing.draw_without_rendering()
    axis = drawing.axes[0].xaxis
    low, high = drawing.axes[0].get_xlim()
    places, labels = axis.get_ticklocs(), axis.get_ticklabels()
    shown = {label.get_text() for at, label in zip(places, labels, strict=True) if low <= at <= high}
    assert shown == {"1", "2", "5", "10"}
    assert not any(label.get_text() for label in axis.get_ticklabels(minor=True))


def test_points_may_be_given_as_they_are_or_as_json(points: list) -> None:
    assert pareto.spots([Point.from_json(points[0])]) == pareto.spots(points[:1])


def with_slices(evidence: Evidence, classes: int = 10) -> Evidence:
    """The evidence with a slice of hostile name, and class 3 (of 100 rows) losing 25."""
    labels, right = np.arange(1000) % classes, np.ones(1000, bool)
    own = right.copy()
    own[np.flatnonzero(labels == 3)[:25]] = False
    names = [f"class {index}" for index in range(classes)]
    slices = compare_slices(right, own, labels, names, {"<b>night": np.arange(1000) < 500}, 0.95)
    return replace(evidence, slices=slices)


def shown(evidence: Evidence, points: list, meta: dict) -> str:
    return render("t", evidence, decide(evidence, meta["budget"], 0.95), points, [], meta)


def test_the_page_shows_who_pays_worst_first_with_figures_and_interval(
    make_evidence: Make, points: list, meta: dict
) -> None:
    page = shown(with_slices(make_evidence()), points, meta)
    rows = re.findall(
        r"<tr[^>]*><td>([^<]*)</td><td class=\"text roomy\">(class|recipe)</td><td class=\"roomy\">(\d+)</td>", page
    )
    assert rows[0] == ("class 3", "class", "100")
    assert ("&lt;b&gt;night", "recipe", "500") in rows
    assert len(rows) == 11
    part = " ".join(page.split("Who pays")[1].split("<h2>")[0].split())
    assert "the one that pays most is &#34;class 3&#34;: 100.0 % → 75.0 %" in part
    assert "<td>100.0 %</td><td>75.0 %</td> <td>−25.00" in part
    assert "they are shown; the budget sets no limit" in part.lower()


def test_a_margin_for_slices_stands_in_the_table(make_evidence: Make, points: list, meta: dict) -> None:
    margin = {**meta, "budget": Budget(max_drop=0.05, max_slice_drop=0.1)}
    page = shown(with_slices(make_evidence()), points, margin)
    assert page.count('<td class="roomy">−10.00</td>') == 11
    assert "not met: slices" in page


def test_of_very_many_slices_the_worst_are_shown_and_the_rest_counted(
    make_evidence: Make, points: list, meta: dict
) -> None:
    page = shown(with_slices(make_evidence(), classes=100), points, meta)
    assert len(re.findall(r'<td class="text roomy">(?:class|recipe)</td>', page)) == SLICES_SHOWN
    assert f"{101 - SLICES_SHOWN} more are in slices.csv" in page


def test_an_original_that_knows_its_validation_rows_is_marked(make_evidence: Make, points: list, meta: dict) -> None:
    knows = {**meta, "seen": has_seen(np.ones(2000, bool), np.arange(2000) < 1800, 0.95)}
    plain, marked = (shown(make_evidence(), points, one) for one in (meta, knows))
    assert "over-estimated" in marked
    assert "100.00 % of 2,000 validation rows" in marked
    assert "over-estimated" not in plain
    assert "99.00 % of 400 validation rows" in plain
    evidence = make_evidence()
    assert as_json("t", evidence, decide(evidence, Budget(), 0.95), points, [], knows)["seen"]["found"] is True
