"""The recipe's own slices of a split, checked at the door: parts whose accuracy is to be looked at by itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trimtab.candidate import digest_of
from trimtab.data import Array, Split
from trimtab.errors import DataError
from trimtab.recipe import UserCode

LONGEST_NAME = 60
WINDOW = "window"
INPUTS = "inputs"  # the parameter by which a callable says that rows it has never seen will do


def load_slices(code: UserCode, split: Split, classes: Sequence[str]) -> dict[str, Array]:
    """Call the recipe's `verify.slices` with the name of a split.

    Args:
        split: the split as loaded, for the number of its rows.
        classes: names of the classes, which are slices too and keep their names.

    Returns:
        Name → bool (n,), in the order of the callable's mapping; empty where the recipe names no callable.

    Raises:
        UserCodeError: the callable cannot be imported or raised.
        DataError: it returned no mapping, a name it cannot use, no bools, another length, or a slice without rows.
    """
    entry = code.recipe.verify.slices
    if entry is None:
        return {}
    where = f"{entry.partition(':')[2]}({split.name!r})"
    found = code.call(entry, "verify.slices", split.name)
    if not isinstance(found, Mapping) or not found:
        what = "an empty mapping" if isinstance(found, Mapping) else type(found).__name__
        raise DataError(f"returned {what}", where=where, fix="return a mapping of slice name to bools, one a row")
    for name in found:
        _check_name(name, classes, where)
    return {name: _mask(values, len(split), f"{where}: {name}") for name, values in found.items()}


def computed_slices(code: UserCode) -> Callable[[Mapping[str, Array]], dict[str, Array]] | None:
    """The recipe's slices of any rows, from their inputs: for windows of the journal; None where that cannot be.

    It can where the callable has a parameter `inputs`, e.g. `def slices(split, inputs=None)`: it is called with the
    split "window" and the rows' inputs, name → (n, ...).

    Returns:
        inputs → name → bool (n,), which may be all False; it raises UserCodeError or DataError as `load_slices` does.

    Raises:
        UserCodeError, RecipeError: the callable cannot be imported.
    """
    entry = code.recipe.verify.slices
    if entry is None or not code.takes(entry, "verify.slices", INPUTS):
        return None
    where = f"{entry.partition(':')[2]}({WINDOW!r}, {INPUTS})"

    def computed(inputs: Mapping[str, Array]) -> dict[str, Array]:
        rows = len(next(iter(inputs.values())))
        found = code.call(entry, "verify.slices", WINDOW, **{INPUTS: inputs})
        if not isinstance(found, Mapping):
            raise DataError(f"returned {type(found).__name__}", where=where, fix="return a mapping of names to bools")
        for name in found:
            _check_name(name, (), where)
        return {name: _mask(values, rows, f"{where}: {name}", least=0) for name, values in found.items()}

    return computed


def slices_of_rows(recipe: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The slices of a recipe file, of any rows; empty where they cannot be computed from inputs (`computed_slices`)."""
    computed = computed_slices(UserCode(recipe))
    return {} if computed is None else computed(inputs)


def slices_digest(slices: Mapping[str, Array]) -> str:
    """SHA-256 over names and masks: what is measured by slice depends on them."""
    return digest_of([[name, hashlib.sha256(mask.tobytes()).hexdigest()] for name, mask in slices.items()])


def _check_name(name: Any, classes: Sequence[str], where: str) -> None:
    plain = isinstance(name, str) and name.isprintable() and name == name.strip()
    if not plain or not 1 <= len(name) <= LONGEST_NAME:
        fix = f"give 1 to {LONGEST_NAME} printable characters, no space at either end"
        raise DataError(f"{name!r} is no name of a slice", where=where, fix=fix)
    if name in classes:
        raise DataError(
            f"{name!r} is the name of a class, and every class is a slice already", where=where, fix="rename the slice"
        )


def _mask(values: Any, rows: int, where: str, least: int = 1) -> Array:
    try:
        mask = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise DataError(f"is no array: {error}", where=where, fix="give one bool a row") from None
    if mask.dtype.kind != "b":
        fix = "give one bool a row, True where the row is of the slice"
        raise DataError(f"{mask.dtype} of shape {mask.shape}, not bool", where=where, fix=fix)
    if mask.shape != (rows,):
        fix = "give one bool a row, in the order of the Dataset"
        raise DataError(f"shape {mask.shape}, the split has {rows} rows", where=where, fix=fix)
    if mask.sum() < least:
        fix = "leave out slices that the split has nothing of"
        raise DataError(f"selects none of {rows} rows", where=where, fix=fix)
    return np.ascontiguousarray(mask)
