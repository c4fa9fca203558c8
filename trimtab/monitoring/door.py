"""What the recipe says of columns, checked before anything is trained: a release finds no fault in it later."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from trimtab.errors import RecipeError
from trimtab.monitoring.columns import columns, fit_inputs, input_kinds, number_columns
from trimtab.monitoring.own import Own, own_columns
from trimtab.monitoring.profile import Given

if TYPE_CHECKING:
    from trimtab.recipe import UserCode
    from trimtab.recipe.schema import Monitoring

Array = np.ndarray
ROWS = 200


def own_of(code: UserCode) -> Own:
    """The recipe's own descriptors, ready to be called.

    Raises:
        UserCodeError, RecipeError: one cannot be imported.
    """
    entries = code.recipe.monitoring.descriptors
    return {name: code.function(entry, f"monitoring.descriptors.{name}") for name, entry in entries.items()}


def kinds_of(monitoring: Monitoring) -> dict[str, Given]:
    """Column → its kind, where the recipe says it."""
    return {name: rule.kind for name, rule in monitoring.drift.columns.items() if rule.kind is not None}


def check_watch(code: UserCode, inputs: Mapping[str, Array], outputs: int) -> tuple[str, ...]:
    """Names of the columns that will be watched, once own descriptors were tried and every column named is there.

    Args:
        code: the recipe with its code.
        inputs: rows of any split; 200 of them are tried.
        outputs: numbers a row that the model answers.

    Raises:
        UserCodeError, DataError: a descriptor cannot be imported, raises, or gives no number a row.
        RecipeError: `monitoring.drift.columns` names a column that there is not.
    """
    rows = {name: np.asarray(values)[:ROWS] for name, values in inputs.items()}
    kinds = input_kinds(rows)
    fitted, n = fit_inputs(rows, kinds), len(next(iter(rows.values())))
    answers = np.full((n, outputs), 1.0 / outputs)
    if code.recipe.purpose.regression:
        watched = number_columns(rows, answers, kinds, fitted)
    else:
        watched = columns(rows, answers, answers.argmax(axis=1), answers.max(axis=1), kinds, fitted)
    names = (*watched, *own_columns(own_of(code), rows))
    for name in code.recipe.monitoring.drift.columns:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            raise RecipeError(
                f"there is no column {name!r}" + (f" (did you mean {close[0]!r}?)" if close else ""),
                where=f"{code.path}: monitoring.drift.columns",
                fix=f"the columns are {', '.join(names[:40])}{', …' if len(names) > 40 else ''}",
            )
    return names
