"""The recipe's own descriptors: columns that a user's function makes of the inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from trimtab.errors import DataError, UserCodeError

Array = np.ndarray
Own = Mapping[str, Callable[[Mapping[str, Array]], object]]
NONE: Own = {}


def own_columns(own: Own, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Columns of these rows.

    Args:
        own: name → function of inputs (name → (n, ...)) that gives a number a row.
        inputs: n rows, one or more inputs.

    Returns:
        name → float64 (n,).

    Raises:
        UserCodeError: a function raised. DataError: it returned something else than n numbers.
    """
    rows = len(next(iter(inputs.values())))
    return {name: _column(name, function(dict(inputs)), rows) for name, function in own.items()}


def try_own_columns(
    names: tuple[str, ...], own: Own, inputs: Mapping[str, Array]
) -> tuple[dict[str, Array], dict[str, str]]:
    """Those of these columns that can be made, and of the others why not: a window is judged without them."""
    made: dict[str, Array] = {}
    failed: dict[str, str] = {}
    for name in names:
        if name not in own:
            failed[name] = f"monitoring.descriptors does not name {name} any more"
            continue
        try:
            made |= own_columns({name: own[name]}, inputs)
        except (UserCodeError, DataError) as error:
            failed[name] = str(error.what).splitlines()[0]
    return made, failed


def _column(name: str, values: object, rows: int) -> Array:
    try:
        column = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"no numbers: {error}", where=f"monitoring.descriptors.{name}", fix=_FIX) from None
    if column.shape != (rows,):
        what = f"returned an array of shape {column.shape} for {rows} rows"
        raise DataError(what, where=f"monitoring.descriptors.{name}", fix=_FIX)
    return column


_FIX = "return one number a row"
