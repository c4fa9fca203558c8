"""The model card and the bill of materials: the same release has the same bytes, and nothing is claimed bare."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from trimtab.registry.card import NOT_SAID, card
from trimtab.registry.sbom import bill
from trimtab.verify.class_numbers import paired_classes
from trimtab.verify.numbers import paired_numbers
from trimtab.verify.slices import compare_slices

REQUIREMENTS = ["onnxruntime==1.32.0", "numpy==2.4.6", "pandas==2.3.3"]


def facts(**changes: Any) -> dict[str, Any]:
    labels, right = np.arange(300) % 3, np.ones(300, bool)
    own = right.copy()
    own[np.flatnonzero(labels == 1)[:30]] = False
    slices = compare_slices(right, own, labels, ["a", "b|c", "d"], {}, 0.95)
    paired = slices.measured[0].paired.to_json()
    evidence = {
        "paired": {"gate": paired},
        "latency": [
            {
                "batch": 1,
                "speedup": 3.0,
                "speedup_low": 2.8,
                "speedup_high": 3.1,
                "rounds": 5,
                "p50_s": 0.001,
                "p99_s": 0.002,
            }
        ],
        "size_bytes": 1000,
        "original_size_bytes": 4000,
        "slices": slices.to_json(),
    }
    return {
        "name": "digits",
        "label": "int8",
        "target": "onnxruntime-cpu",
        "precision": "int8",
        "threads": 1,
        "classes": 3,
        "labels": ["a", "b|c", "d"],
        "gate": {"answer": "pass", "checks": [{"name": "size", "passed": True, "reason": "4.00x smaller"}]},
        "lineage": [{"method": "train", "parameters": {"epochs": 3}, "seed": 1}],
        "evidence": evidence,
        "intended_use": "reading digits",
        **changes,
    }


def test_the_card_has_every_section_and_no_accuracy_without_its_interval() -> None:
    text = card(facts(), {"train": 900, "gate": 300})
    heads = re.findall(r"^## (.*)$", text, re.M)
    assert heads[0] == "Intended use"
    assert {"Data", "How it was made", "Accuracy", "By class and slice", "Speed and size", "Limits"} <= set(heads)
    assert "reading digits" in text
    assert "1. **train** (epochs 3, seed 1)" in text
    shares = re.findall(r"\d+\.\d\d%(?! \[|,|\])", text)
    assert shares == []


def test_a_name_with_a_pipe_does_not_break_the_table() -> None:
    (line,) = [line for line in card(facts(), {}).splitlines() if line.startswith("| b\\|c")]
    assert line.replace("\\|", "").count("|") == 5


def test_what_is_not_known_is_said_to_be_unknown() -> None:
    text = card(facts(intended_use="", evidence={}, labels=None), {})
    assert NOT_SAID in text
    assert "Not measured." in text
    assert "(0, 1, 2)" in text


def test_the_bill_names_what_is_needed_with_versions_and_has_no_time_in_it() -> None:
    first = bill("digits", "abc", REQUIREMENTS)
    assert first == bill("digits", "abc", REQUIREMENTS)
    value = json.loads(first)
    names = {each["name"] for each in value["components"]}
    assert {"onnxruntime", "numpy", "pandas", "python-dateutil"} <= names  # the last one is what pandas needs
    assert not {"torch", "mlflow", "prefect", "pytest"} & names
    assert "timestamp" not in first.decode()
    references = {each["bom-ref"] for each in value["components"]} | {"release"}
    assert all({entry["ref"], *entry["dependsOn"]} <= references for entry in value["dependencies"])
    assert all(re.fullmatch(r"pkg:pypi/[a-z0-9-]+@[^@]+", each["purl"]) for each in value["components"])


def test_a_requirement_that_is_not_installed_is_an_error_and_not_left_out() -> None:
    from importlib.metadata import PackageNotFoundError

    with pytest.raises(PackageNotFoundError):
        bill("digits", "abc", ["no-such-package==1.0"])


def test_the_card_of_a_regression_speaks_of_its_metric_and_not_of_classes() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(200, 1))
    paired = paired_numbers(
        "rmse", truth + rng.normal(size=truth.shape), truth + rng.normal(size=truth.shape), truth, 0.95
    )
    changes = {
        "classes": None,
        "labels": None,
        "outputs": 1,
        "metric": "rmse",
        "evidence": {"paired": {"gate": paired.to_json()}},
    }
    text = card(facts(**changes), {"train": 900, "gate": 200})
    assert f"| gate | 200 | {paired.original.value:.4g} [" in text
    assert "## RMSE" in text
    assert "1 number(s)" in text
    assert "class" not in text.split("## Limits")[1]


def test_the_slices_of_a_regression_are_in_its_metric_and_no_shares() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(200, 1))
    paired = paired_numbers("rmse", truth + rng.normal(size=truth.shape), truth + 1, truth, 0.95).to_json()
    slices = {"measured": [{"name": "old", "paired": paired}], "confidence": 0.95}
    changes = {"classes": None, "labels": None, "outputs": 1, "metric": "rmse", "evidence": {"slices": slices}}
    text = card(facts(**changes), {"train": 900, "gate": 200}).split("## By class and slice")[1].split("##")[0]
    assert "| old | 200 | 1 [" in text
    assert "accuracy" not in text


def test_a_retrained_release_says_which_rows_it_learnt_from_and_what_they_counted() -> None:
    used = {
        "windows": [[0, 200], [400, 600]],
        "rows": {"train": 90, "validation": 20, "held_out": 40},
        "weight": 2.5,
        "warm_start": None,
    }
    said = "90 labelled journal rows of 2 windows (rows 0–200, 400–600) joined the training data, each with weight 2.5"
    assert said in card(facts(retraining=used), {"train": 900})
    assert "training began from scratch." in card(facts(retraining=used), {"train": 900})
    assert "journal" not in card(facts(), {"train": 900})


@pytest.mark.parametrize(("metric", "head"), [("f1", "Macro F1"), ("log_loss", "Log loss")])
def test_a_classifier_judged_by_another_metric_has_that_by_split_and_accuracy_by_slice(metric: Any, head: str) -> None:
    labels = np.arange(300) % 3
    base = 0.1 + 0.7 * np.eye(3)[labels]
    own = base.copy()
    own[:30] = own[:30, ::-1]
    paired = paired_classes(metric, base, own, labels, 0.95).to_json()
    given = facts(metric=metric)
    given["evidence"]["paired"] = {"gate": paired}
    sections = dict(part.split("\n", 1) for part in card(given, {}).split("\n## ")[1:])

    said = next(text for title, text in sections.items() if title == head)
    assert ("negative where worse" in said) is (metric == "log_loss")
    assert "in points" not in said
    assert "accuracy" in sections["By class and slice"]
    assert "in points" in sections["By class and slice"]
