"""The report's sections on trust, reasons and costs: there with their figures, left out where nothing was measured."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from trimtab.verify.attribution.agreement import compare_attributions
from trimtab.verify.evidence import Evidence
from trimtab.verify.further import Further
from trimtab.verify.gate import decide
from trimtab.verify.numbers import paired_numbers
from trimtab.verify.reliability import compare_trust
from trimtab.verify.report import as_json, render
from trimtab.verify.throughput import Throughput

Make = Callable[..., Evidence]
TITLES = ("Can its probabilities be trusted", "Does it decide for the same reasons", "Throughput, memory and loading")


@pytest.fixture(scope="module")
def full(make_evidence: Make) -> Evidence:
    """Evidence with everything that may be in it."""
    random = np.random.default_rng(0)
    chances, labels = random.dirichlet(np.ones(3), 90), np.arange(90) % 3
    values = random.normal(size=(4, 16))
    return replace(
        make_evidence(),
        trust=compare_trust(chances, chances**2 / (chances**2).sum(axis=1, keepdims=True), labels, 0.95),
        attributions=compare_attributions(values, -values, range(4), [0] * 4, 0.95, "occlusion"),
        throughput={"original": Throughput(1, 1, 3120, 2980, 3201), "candidate": Throughput(2, 1, 14220, 13800, 14904)},
    )


@pytest.fixture(scope="module")
def measured(points: list) -> list:
    return [{**one, "memory_mb": 4.25, "load_ms": 31.0 + place} for place, one in enumerate(points)]


@pytest.fixture(scope="module")
def explained(full: Evidence, meta: dict) -> dict:
    assert full.attributions is not None
    inputs = {one.row: {"input": np.zeros((1, 4, 4), np.float32)} for one in full.attributions.examples}
    return {**meta, "explained": inputs, "patch": 1}


def test_what_was_measured_is_there_and_what_was_not_leaves_no_empty_section(
    make_evidence: Make, full: Evidence, measured: list, points: list, meta: dict, explained: dict
) -> None:
    page = render("t", full, decide(full, meta["budget"], 0.95), measured, [], explained)
    bare = render("t", make_evidence(), decide(full, meta["budget"], 0.95), points, [], {**meta, "target": "elsewhere"})
    for title in TITLES:
        assert title in page
        assert title not in bare
    for figure in ("mean rank correlation of -1.000", "14,220", "13,800 – 14,904", "4.2 MiB", "by chance<br>alone"):
        assert figure in page, figure
    assert page.count('src="data:image/png;base64,') == bare.count('src="data:image/png;base64,') + 2
    assert not re.search(r"https?:|//[a-z]|url\(", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page))
    assert len(page.encode()) <= 2_000_000


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_regression_has_costs_and_reasons_in_words_of_its_own_and_no_calibration(
    full: Evidence, measured: list, explained: dict, outputs: int
) -> None:
    random = np.random.default_rng(0)
    labels = random.normal(size=(60, outputs))
    base, own = labels + 0.1 * random.normal(size=labels.shape), labels + 0.1 * random.normal(size=labels.shape)
    values = random.normal(size=(4, 16))
    given = {
        **explained,
        "labels": [],
        "seen": None,
        "confusion_before": np.stack([labels, base], axis=-1),
        "confusion_after": np.stack([labels, own], axis=-1),
    }
    evidence = replace(
        full,
        paired={"gate": paired_numbers("rmse", base, own, labels, 0.95)},
        parity=replace(full.parity, tolerance=0.1),
        attributions=compare_attributions(
            values, -values, range(4), [row % outputs for row in range(4)], 0.95, "occlusion"
        ),
        trust=None,
    )
    page = render("t", evidence, decide(evidence, given["budget"], 0.95), measured, [], given)
    for there in ("Does it answer for the same reasons", "answered number loses by it", TITLES[2], "14,220"):
        assert page.count(there) == 1, there
    for absent in (*TITLES[:2], "log-odds", "probabilit", 'src=""', "class and"):
        assert absent not in page, absent
    assert ("numbers take turns" in page) == (outputs > 1)
    assert page.count('src="data:image/png;base64,') == 4  # the front, two scatters, attributions


def test_the_candidate_stands_beside_the_uncompressed_original_on_its_runtime(
    full: Evidence, measured: list, meta: dict
) -> None:
    page = render("t", full, decide(full, meta["budget"], 0.95), measured, [], meta)
    part = page.split(TITLES[2])[1].split("</table>")[0]
    names = re.findall(r"<tr[^>]*><td>([^<]+)<", part)
    assert names == ["original, eager", "uncompressed", "candidate"]
    places = {one["candidate"]: one["load_ms"] for one in measured if one["target"] == "openvino-cpu"}
    assert re.findall(r"(\d+) ms", part) == [f"{places['c0']:.0f}", f"{places['c3']:.0f}"]


def test_the_json_says_the_same(full: Evidence, measured: list, meta: dict) -> None:
    value = json.loads(
        json.dumps(as_json("t", full, decide(full, meta["budget"], 0.95), measured, [], meta), allow_nan=False)
    )
    assert Evidence.from_json(value["evidence"]) == full
    assert value["costs"]["candidate"]["peak_memory_mb"] == 4.25
    assert value["costs"]["uncompressed"]["load_ms"] > 0


def test_a_retrained_release_says_what_it_was_retrained_with(full: Evidence, measured: list, meta: dict) -> None:
    rows = {"train": 90, "validation": 20, "held_out": 40}
    used = {"windows": [[0, 200]], "rows": rows, "weight": 4.0, "warm_start": "0123456789abcdef"}
    decision = decide(full, meta["budget"], 0.95)
    content = ("demo", full, decision, measured, measured)
    assert "journal rows" not in render(*content, meta)

    page = render(*content, {**meta, "retraining": used})

    assert "each with weight 4 beside 1 of a base row" in page
    assert "training began from the weights of 0123456789ab." in page
    assert as_json(*content, {**meta, "retraining": used})["retraining"] == used


def test_further_outputs_are_in_the_report_and_the_json_where_there_are_any(
    make_evidence: Make, measured: list, meta: dict
) -> None:
    plain = make_evidence()
    further = (Further("embedding", 3e-6, 2e-6, 0.25),)
    evidence = replace(plain, parity=replace(plain.parity, further=further))
    for one, there in ((evidence, True), (plain, False)):
        decision = decide(one, meta["budget"], 0.95)
        page = render("t", one, decision, measured, measured[:1], meta)
        assert ("further output" in page) is there
        assert ("further" in as_json("t", one, decision, measured, measured[:1], meta)["evidence"]["parity"]) is there
        assert Evidence.from_json(json.loads(json.dumps(one.to_json()))).parity == one.parity
    assert "<td>embedding</td><td>3.00e-06</td><td>2.00e-06</td><td>2.50e-01</td>" in render(
        "t", evidence, decide(evidence, meta["budget"], 0.95), measured, measured[:1], meta
    )
