"""Verdicts before and after labels: damage by estimate, measured damage beside it, and the metric that decides."""

from __future__ import annotations

import json
from typing import Any

import monitoring_world as world
import numpy as np
import pytest

from trimtab.errors import UserCodeError
from trimtab.monitoring import performance_reference
from trimtab.monitoring import profile as profiles
from trimtab.monitoring.judge import judge
from trimtab.monitoring.metrics import find
from trimtab.monitoring.verdict import Verdict
from trimtab.recipe.schema import Monitoring
from trimtab.task import CLASSIFICATION

Array = np.ndarray
CLASSES = 3
SECOND = 10**9


def drawn(seed: int, n: int, sharp: float) -> tuple[dict[str, Array], Array, Array]:
    """Inputs that tell nothing, calibrated answers, and the labels drawn from them."""
    random = np.random.default_rng(seed)
    output = random.dirichlet(np.full(CLASSES, sharp), n)
    label = (np.cumsum(output, axis=1) < random.random(n)[:, None]).sum(axis=1).clip(0, CLASSES - 1)
    return {"input": random.normal(size=(n, 2)).astype(np.float32)}, output, label


def build() -> tuple[profiles.Profile, dict[str, Array], performance_reference.PerformanceReference]:
    inputs, output, label = drawn(0, 600, 0.1)
    profile, columns = profiles.build(inputs, output, label)
    slices = {"right": inputs["input"][:, 0] > 0}
    return profile, columns, performance_reference.build(columns, output, label, slices, CLASSIFICATION)


PROFILE, REFERENCE, KNOWN = build()


def window(seed: int = 1, sharp: float = 0.1, labelled: int = 0, n: int = 200, **changes: Any) -> world.FakeWindow:
    inputs, output, label = drawn(seed, n, sharp)
    came = np.arange(n) < labelled
    made = world.FakeWindow(
        request_id=np.array([f"r{i}" for i in range(n)]),
        row=np.zeros(n, np.int64),
        time_ns=np.arange(n) * SECOND,
        version=np.array(["3"] * n),
        predicted=output.argmax(axis=1),
        confidence=output.max(axis=1),
        output=output,
        inputs=inputs,
        label=np.where(came, label, -1),
        status=np.full(n, 200),
        lo=1000,
        hi=1000 + n,
        labelled=labelled,
        label_time_ns=np.where(came, np.arange(n) * SECOND + 120 * SECOND, -1),
        labels_as_of_ns=(labelled + 119) * SECOND if labelled else 0,
    )
    return made.but(**changes)


def verdict_on(given: world.FakeWindow, monitoring: Monitoring | None = None, **more: Any) -> Verdict:
    more.setdefault("known", KNOWN)
    return judge(given, PROFILE, REFERENCE, monitoring or Monitoring(), **more)


def test_a_healthy_window_without_labels_is_estimated_near_what_it_then_shows() -> None:
    verdict = verdict_on(window())
    assert verdict.kind in ("healthy", "drift")
    assert verdict.estimated is not None
    assert verdict.estimated.value is not None
    _, output, label = drawn(1, 200, 0.1)
    truth = float((output.argmax(axis=1) == label).mean())
    assert verdict.estimated.value.low <= truth <= verdict.estimated.value.high
    assert any("accuracy is estimated at" in reason for reason in verdict.reasons)
    assert verdict.reasons[-1] == "accuracy is undefined: 0 of 200 rows labelled"


def test_answers_that_have_become_unsure_are_damage_by_estimate_until_labels_say() -> None:
    before = verdict_on(window(sharp=2.0))
    assert before.kind == "damage_estimated"
    assert before.estimated is not None
    assert before.estimated.answer == "damage"
    assert not before.damaged
    after = verdict_on(window(sharp=2.0, labelled=200), past=[before])
    assert after.kind == "drift+damage"
    assert (after.revision, after.replaces, after.replaced_kind) == (1, before.digest, "damage_estimated")
    assert after.confirmed
    assert after.estimated is not None
    assert after.estimated.value == before.estimated.value
    assert any("so it was off by" in reason for reason in after.reasons)


def test_labels_that_show_no_damage_overrule_the_estimate() -> None:
    given = window(sharp=2.0, labelled=200)
    verdict = verdict_on(given.but(label=given.predicted.astype(np.int64)))
    assert verdict.estimated is not None
    assert verdict.estimated.answer == "damage"
    assert verdict.kind == "drift"


def test_inputs_that_left_the_reference_cannot_tell() -> None:
    given = window(sharp=2.0)
    given.inputs["input"] += 20
    verdict = verdict_on(given)
    assert verdict.kind == "drift"
    assert verdict.estimated is not None
    assert verdict.estimated.answer == "cannot_tell"
    assert any("cannot tell: 200 of 200 rows lie beyond" in reason for reason in verdict.reasons)


def test_a_release_of_before_there_were_maps_is_judged_as_ever() -> None:
    verdict = verdict_on(window(labelled=200), known=None)
    assert verdict.estimated is not None
    assert verdict.estimated.answer == "not_available"
    assert any("not available: release has no calibration map" in reason for reason in verdict.reasons)
    assert find(verdict.figures, "f1", "macro").verified is None  # type: ignore[union-attr]
    asked = verdict_on(window(labelled=200), Monitoring(metric="f1"), known=None)
    assert asked.performance.name == "accuracy"
    assert any("no F1 (macro) was verified: accuracy decides" in reason for reason in asked.reasons)


def test_without_estimates_nothing_is_said_of_them() -> None:
    verdict = verdict_on(window(sharp=2.0), Monitoring(estimate=False))
    assert verdict.estimated is None
    assert verdict.kind == "drift"


def test_every_figure_stands_beside_the_verified_one() -> None:
    verdict = verdict_on(window(labelled=200))
    for metric, of in (("accuracy", "all"), ("f1", "macro"), ("roc_auc", "class 1"), ("ece", "all")):
        figure = find(verdict.figures, metric, of)
        assert figure is not None
        assert figure.interval is not None
        assert figure.verified is not None
        assert abs(figure.interval.value - figure.verified) < 0.1


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ({"metric": "f1"}, "F1 (macro)"),
        ({"metric": "recall", "metric_class": 2}, "recall (class 2)"),
        ({"metric": "log_loss", "max_damage": 0.3}, "log loss"),
        ({"metric": "roc_auc"}, "ROC AUC (macro)"),
        ({"metric": "ece"}, "calibration error"),
    ],
)
def test_the_recipe_chooses_what_decides(keys: dict[str, Any], name: str) -> None:
    fine = verdict_on(window(labelled=200), Monitoring(**keys))
    assert fine.performance.name == name
    assert fine.performance.answer in ("ok", "undecided")
    given = window(labelled=200)
    wrong = verdict_on(given.but(label=(given.predicted + 1) % CLASSES), Monitoring(**keys))
    assert wrong.damaged, wrong.reasons
    assert wrong.reasons[-1].startswith(f"measured damage: {name}")


def test_an_undefined_metric_is_its_own_answer_and_starts_nothing() -> None:
    given = window(labelled=200)
    one_class = given.but(label=np.zeros(200, np.int64))
    verdict = verdict_on(one_class, Monitoring(metric="roc_auc"))
    assert verdict.performance.answer == "undefined"
    assert not verdict.damaged
    assert verdict.reasons[-1].startswith("ROC AUC (macro) is undefined: one class only among 200 labels")
    absent = verdict_on(one_class, Monitoring(metric="recall", metric_class=1))
    assert absent.performance.undefined == "no positives among 200 labels"
    unknown = verdict_on(given, Monitoring(metric="recall", metric_class=9))
    assert unknown.performance.name == "accuracy"


def test_slices_are_computed_from_inputs_and_stand_beside_the_verified_ones() -> None:
    def slices(inputs: Any) -> dict[str, Array]:
        return {"right": inputs["input"][:, 0] > 0, "new": np.zeros(len(inputs["input"]), bool)}

    given = window(labelled=120, has_inputs=np.arange(200) >= 40)
    verdict = verdict_on(given, slices=slices)
    figure = find(verdict.figures, "accuracy", "slice right")
    assert figure is not None
    assert figure.interval is not None
    assert figure.verified is not None
    mask = (given.inputs["input"][:, 0] > 0) & (np.arange(200) >= 40) & (np.arange(200) < 120)
    assert figure.interval.n == mask.sum()
    assert figure.interval.value == pytest.approx((given.predicted == given.label)[mask].mean())
    assert find(verdict.figures, "accuracy", "slice new").undefined == "no labelled row"  # type: ignore[union-attr]


def test_slices_that_fail_are_left_out_with_the_reason() -> None:
    def broken(inputs: Any) -> dict[str, Array]:
        raise UserCodeError("net:parts raised KeyError: 'hour'\n  File …", where="recipe.yaml")

    verdict = verdict_on(window(labelled=100), slices=broken)
    assert "the recipe's slices are left out: net:parts raised KeyError: 'hour'" in verdict.reasons


def test_how_labels_came_is_part_of_the_verdict() -> None:
    verdict = verdict_on(window(labelled=80))
    assert verdict.labels is not None
    assert (verdict.labels.in_window, verdict.labels.delay_median_s, verdict.labels.delay_p90_s) == (80, 120.0, 120.0)
    rows = sum(rows for rows, _ in verdict.labels.by_predicted.values())
    known = sum(known for _, known in verdict.labels.by_predicted.values())
    assert (rows, known) == (200, 80)
    assert verdict.labels.as_of_ns == 199 * SECOND
    assert any(reason.startswith("labels came 2.0 min after the answer") for reason in verdict.reasons)


def test_the_same_window_and_past_give_the_same_bytes_and_they_survive_json() -> None:
    past = [verdict_on(window(seed=5, lo=0, hi=200, labelled=200))]
    first, second = (verdict_on(window(labelled=150), past=past) for _ in range(2))
    text = json.dumps(first.to_json(), sort_keys=True, allow_nan=False)
    assert text == json.dumps(second.to_json(), sort_keys=True, allow_nan=False)
    assert Verdict.from_json(json.loads(text)) == first
    assert Verdict.from_json(json.loads(text)).digest == first.digest
    assert first.estimated is not None
    assert first.estimated.past is not None
    assert first.estimated.past.windows == 1


def test_estimates_that_were_further_off_than_damage_is_are_not_believed() -> None:
    def wrong(seed: int) -> Verdict:
        given = window(seed=seed, lo=200 * seed, hi=200 * seed + 200, labelled=200)
        return verdict_on(given.but(label=np.where(np.arange(200) % 3 == 0, (given.label + 1) % CLASSES, given.label)))

    verdict = verdict_on(window(sharp=2.0), past=[wrong(seed) for seed in (10, 11, 12)])
    assert verdict.estimated is not None
    assert verdict.estimated.answer == "cannot_tell"
    assert verdict.kind == "drift"
