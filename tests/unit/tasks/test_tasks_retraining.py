"""Where a retrain starts from, and what its release says of that and of the rows."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tasks import optimize
from tasks.reporting import retrained
from trimtab.candidate import Candidate, InputsDigest, Step
from trimtab.recipe.load import parse_recipe
from trimtab.retrain import divide

HEAD = "name: demo\nmodel: n:b\ndata: n:s\n"


def bench(text: str = "", stored: bool = True, weight: float | None = None) -> Any:
    rows = None
    if weight is not None:
        inputs = {"input": np.arange(200, dtype=np.float32)[:, None]}
        rows = divide(inputs, np.arange(200) % 3, [f"{i}/0" for i in range(200)], 0.3, "abc", weight, [(0, 200)])
    return SimpleNamespace(
        recipe=parse_recipe(HEAD + text), stored=lambda candidate: object() if stored else None, new_rows=rows
    )


def original(**parameters: Any) -> Candidate:
    return Candidate((Step("train", parameters, 0), Step("prune", {}, 0)), InputsDigest("d", "w", "c", "v"))


@pytest.mark.parametrize(
    ("text", "before", "stored", "expected"),
    [
        ("", "abc", True, "abc"),
        ("", None, True, None),
        ("", "abc", False, None),
        ("monitoring: {retraining: {warm_start: false}}", "abc", True, None),
    ],
    ids=["by default", "a first release", "gone from the store", "not wanted"],
)
def test_training_starts_from_the_champions_weights_where_they_are_wanted_and_there(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    text: str,
    before: str | None,
    stored: bool,
    expected: str | None,
) -> None:
    monkeypatch.setattr(optimize, "get_run_logger", lambda: logging.getLogger("test"))

    assert optimize._warm(bench(text, stored), before) == expected

    assert ("training starts from scratch" in caplog.text) is not stored


def test_a_release_says_what_it_was_retrained_with_and_another_says_nothing() -> None:
    assert retrained(bench(), original()) is None
    warm = retrained(bench(weight=3.0), original(warm_start="0123"))
    assert warm is not None
    assert (warm["weight"], warm["windows"], warm["warm_start"]) == (3.0, [[0, 200]], "0123")
    assert sum(warm["rows"].values()) == 200
    cold = retrained(bench(weight=3.0), original())
    assert cold is not None
    assert cold["warm_start"] is None
