"""Slices in the choice: looked at where the budget sets a limit, classes alone where the recipe's own cannot be had."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tasks import select
from trimtab.errors import DataError
from trimtab.recipe.schema import Budget
from trimtab.task import CLASSIFICATION

LABELS = np.arange(200) % 2
NIGHT = {"night": np.arange(200) >= 190}
RIGHT = {"baseline": np.ones(200, bool), "a@here": np.arange(200) < 195}


def bench(limit: float | None, slices: Any) -> Any:
    return SimpleNamespace(
        task=CLASSIFICATION,
        recipe=SimpleNamespace(budget=Budget(max_slice_drop=limit)),
        splits={"validation": SimpleNamespace(labels=LABELS)},
        class_names=["even", "odd"],
        validation_slices=slices,
    )


def refuses() -> Any:
    raise DataError("KeyError 'validation'", where="parts('validation')")


def test_the_worst_slice_of_each_build_is_known_where_the_budget_asks() -> None:
    assert select._worst_slices(bench(0.1, lambda: NIGHT), RIGHT) == {"a@here": ("night", pytest.approx(0.5))}
    assert select._worst_slices(bench(None, refuses), RIGHT) == {}


def test_a_callable_that_has_nothing_for_validation_leaves_the_classes_and_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(select, "get_run_logger", lambda: logging.getLogger("told"))
    with caplog.at_level(logging.WARNING, logger="told"):
        found = select._worst_slices(bench(0.1, refuses), RIGHT)
    assert found == {"a@here": ("odd", pytest.approx(0.03))}
    assert "classes alone" in caplog.text
    assert "KeyError 'validation'" in caplog.text
