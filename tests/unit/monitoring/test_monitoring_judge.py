from __future__ import annotations

import json

import monitoring_world as world
import numpy as np
import pytest

from trimtab.descriptors import descriptors
from trimtab.monitoring import drift
from trimtab.monitoring.judge import judge, ready
from trimtab.monitoring.verdict import Verdict

PROFILE, REFERENCE = world.release()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """p-values straight from scipy, for what does not turn on them; test_monitoring_drift holds the two equal."""
    monkeypatch.setattr(drift, "evidently_p_values", world.own_p_values)


def verdict_on(window: world.FakeWindow, version: str | None = None) -> Verdict:
    return judge(window, PROFILE, REFERENCE, world.MONITORING, version=version)


@pytest.mark.parametrize(
    ("contrast", "accuracy", "kind"),
    [(1.0, 0.95, "healthy"), (0.5, 0.95, "drift"), (1.0, 0.7, "damage"), (0.5, 0.7, "drift+damage")],
)
def test_drift_and_damage_are_told_apart(contrast: float, accuracy: float, kind: str) -> None:
    verdict = verdict_on(world.window(contrast=contrast, accuracy=accuracy))
    assert verdict.kind == kind
    assert ("input.std" in verdict.drifted) == (contrast < 1)
    assert verdict.damaged == (accuracy < 0.9)


def test_the_same_window_gives_the_same_bytes_and_they_survive_json() -> None:
    first, second = (verdict_on(world.window(contrast=0.5, accuracy=0.7)) for _ in range(2))
    text = json.dumps(first.to_json(), sort_keys=True, allow_nan=False)
    assert text == json.dumps(second.to_json(), sort_keys=True, allow_nan=False)
    assert Verdict.from_json(json.loads(text)) == first
    assert Verdict.from_json(json.loads(text)).digest == first.digest


@pytest.mark.usefixtures("quick")
def test_another_window_has_another_digest() -> None:
    window = world.window()
    assert verdict_on(window).digest != verdict_on(window.but(hi=window.hi + 1)).digest


@pytest.mark.usefixtures("quick")
def test_a_tiny_window_is_not_judged_however_different_it_looks() -> None:
    verdict = verdict_on(world.window(n=8, contrast=0.01, accuracy=0.0))
    assert verdict.kind == "not_enough_rows"
    assert verdict.columns == ()
    assert "8 answered rows" in verdict.reasons[0]


@pytest.mark.usefixtures("quick")
def test_an_empty_window_is_not_enough_rows() -> None:
    assert verdict_on(world.window(n=0)).kind == "not_enough_rows"


def test_broken_inputs_are_data_quality_even_when_accuracy_falls() -> None:
    window = world.window(accuracy=0.5)
    window.inputs["input"][:] = np.nan
    verdict = verdict_on(window)
    assert verdict.kind == "data_quality"
    assert any("input.mean" in reason and "no data" in reason for reason in verdict.reasons)


@pytest.mark.usefixtures("quick")
def test_one_broken_request_does_not_hide_drift_and_damage() -> None:
    window = world.window(accuracy=0.7, contrast=0.5)
    window.inputs["input"][5] = np.nan
    assert verdict_on(window).kind == "drift+damage"


@pytest.mark.usefixtures("quick")
def test_an_input_that_disappeared_is_data_quality_and_one_not_journalled_is_not() -> None:
    window = world.window()
    assert verdict_on(window.but(inputs={})).kind == "data_quality"
    verdict = verdict_on(window.but(inputs=None))
    assert verdict.kind == "healthy"
    assert any("not journalled" in reason for reason in verdict.reasons)


@pytest.mark.usefixtures("quick")
def test_rows_without_journalled_inputs_are_watched_by_their_answers_only() -> None:
    window = world.window().but(has_inputs=np.arange(200) >= 80)
    window.inputs["input"][:80] = 0.0  # the journal's filler
    verdict = verdict_on(window)
    assert verdict.kind == "healthy"
    assert {column.n for column in verdict.columns if column.name.startswith("input")} == {120}
    assert any(reason.startswith("80 rows have no journalled inputs") for reason in verdict.reasons)
    assert verdict_on(window.but(has_inputs=np.zeros(200, bool))).columns[0].findings[0].code == "not_journalled"


@pytest.mark.usefixtures("quick")
def test_a_wider_output_of_another_version_does_not_spoil_this_ones() -> None:
    window = world.window()
    wide = np.column_stack([window.output, np.full((200, 2), np.nan)])
    assert verdict_on(window.but(output=wide)).kind == "healthy"


@pytest.mark.usefixtures("quick")
def test_rows_of_another_version_are_left_out_and_counted() -> None:
    window = world.window(accuracy=0.95, contrast=1.0)
    window.version[:60] = "2"
    window.label[:60] = (window.predicted[:60] + 1) % world.CLASSES
    verdict = verdict_on(window)
    assert (verdict.version, verdict.rows, verdict.other_versions) == ("3", 140, 60)
    assert verdict.kind == "healthy"
    assert verdict_on(window, version="2").performance.accuracy.value == 0.0


@pytest.mark.usefixtures("quick")
def test_failed_requests_are_counted_and_never_scored() -> None:
    window = world.window()
    window.status[:50] = 500
    window.output[:50] = np.nan
    window.confidence[:50] = np.nan
    window.predicted[:50] = -1
    verdict = verdict_on(window)
    assert (verdict.rows, verdict.errors, verdict.error_rate) == (150, 50, 0.25)
    assert verdict.kind == "healthy"
    assert "50 of 200 requests ended in an error" in verdict.reasons


@pytest.mark.usefixtures("quick")
def test_an_outage_is_an_alert_and_not_a_quiet_lack_of_rows() -> None:
    window = world.window()
    window.status[:190] = 500
    assert verdict_on(window).kind == "data_quality"


@pytest.mark.usefixtures("quick")
def test_answers_that_are_nan_are_data_quality() -> None:
    window = world.window()
    window.output[:100] = np.nan
    window.confidence[:100] = np.nan
    assert verdict_on(window).kind == "data_quality"


@pytest.mark.usefixtures("quick")
def test_labels_that_are_no_class_are_data_quality_and_few_of_them_are_not() -> None:
    window = world.window()
    window.label[:40] = 9
    assert verdict_on(window).kind == "data_quality"
    window = world.window()
    window.label[0] = 9
    assert verdict_on(window).kind == "healthy"


@pytest.mark.usefixtures("quick")
def test_label_counts_of_the_window_are_shown() -> None:
    window = world.window().but(duplicates=3, unknown_labels=2)
    window.label[50:] = -1
    shown = verdict_on(window).to_json()
    assert (shown["duplicates"], shown["unknown_labels"], shown["coverage"]) == (3, 2, 0.25)


@pytest.mark.usefixtures("quick")
def test_few_labels_give_no_damage_and_no_label_an_undefined_accuracy() -> None:
    window = world.window(accuracy=0.5)
    window.label[40:] = -1
    assert verdict_on(window).kind == "healthy"
    window.label[:] = -1
    verdict = verdict_on(window)
    assert verdict.kind == "healthy"
    assert verdict.reasons[-1] == "accuracy is undefined: 0 of 200 rows labelled"


@pytest.mark.usefixtures("quick")
def test_an_open_answer_says_that_the_rows_are_too_few_to_exclude_a_drop() -> None:
    window = world.window(accuracy=0.95)
    verdict = verdict_on(window)
    assert verdict.performance.answer == "undecided"
    assert verdict.kind == "healthy"
    limit = verdict.performance.limit
    assert verdict.reasons[-1].startswith(f"no damage shown, but 200 rows cannot exclude a drop below {limit:.3f}: ")


@pytest.mark.parametrize(
    ("rows", "labelled", "age", "expected"),
    [
        (199, 199, 1e9, "collect"),
        (200, 49, 10, "wait_for_labels"),
        (200, 50, 0, "judge"),
        (200, 0, 600, "judge"),
        (200, 0, 599, "wait_for_labels"),
    ],
)
def test_a_window_waits_for_rows_and_then_a_while_for_labels(
    rows: int, labelled: int, age: float, expected: str
) -> None:
    assert ready(rows, labelled, age, world.MONITORING.window) == expected


@pytest.mark.usefixtures("quick")
def test_descriptors_in_the_journal_give_the_verdict_that_the_inputs_would() -> None:
    for contrast in (1.0, 0.5):
        window = world.window(contrast=contrast)
        described = np.stack(list(descriptors(window.inputs["input"]).values()), axis=1)
        by_inputs, by_descriptors = verdict_on(window), verdict_on(window.but(inputs={"descriptors:input": described}))
        assert by_inputs == by_descriptors
        assert by_inputs.kind == ("healthy" if contrast == 1 else "drift")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("mark", ["redacted:input", "hash:input"])
def test_an_input_that_was_left_out_on_purpose_is_no_data_error(mark: str) -> None:
    width = () if mark.startswith("hash") else (0,)
    window = world.window().but(inputs={mark: np.zeros((200, *width), np.int64), "other": np.ones(200)})
    verdict = verdict_on(window)
    assert verdict.kind == "healthy"
    assert {column.findings[0].code for column in verdict.columns if column.name.startswith("input")} == {
        "not_journalled"
    }
    assert verdict_on(window.but(inputs={"other": np.ones(200)})).kind == "data_quality"
