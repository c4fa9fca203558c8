"""The two data frames and the named tests that Evidently gets, made from what the verdict was made from."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trimtab.monitoring.drift import ColumnResult, Pair
from trimtab.monitoring.engine import PREFIX, evidently
from trimtab.monitoring.profile import ColumnProfile, code
from trimtab.monitoring.summary import MOST, OTHER, ColumnSummary, expanded

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray
NO_ROWS: Mapping[str, Array] = {}


@dataclass(frozen=True)
class Frames:
    """What can be tested.

    Attributes:
        current, reference: one column each for the names in `methods`; float64 with NaN, or text with None. Up to 8,192
            rows they are the rows, in their order; beyond, the summary, in random order, each column by itself.
        methods: column → name of the Evidently test. limits: column → drift from this score on.
        numeric, categorical: the columns by how they are tested.
    """

    current: pd.DataFrame
    reference: pd.DataFrame
    methods: Mapping[str, str]
    limits: Mapping[str, float]
    numeric: list[str]
    categorical: list[str]


def frames(
    pairs: Mapping[str, Pair],
    results: Iterable[ColumnResult],
    window: Mapping[str, Array] = NO_ROWS,
    reference: Mapping[str, Array] = NO_ROWS,
) -> Frames:
    """Frames of the columns that were tested; the others would stop Evidently's whole report.

    Args:
        pairs, results: of one `drift.compare`.
        window, reference: the rows themselves, which few enough are shown as they are; a column that is not there, or
            has more, is shown as its summary.
    """
    import pandas as pd

    tested = {result.name: result for result in results if result.name in pairs and result.limit is not None}
    # A Series each, because columns may differ in length: the shorter are filled with NaN, which is not tested.
    current = {name: pd.Series(_shown(pairs[name].column, pairs[name].window, window)) for name in tested}
    then = {name: pd.Series(_shown(pairs[name].column, pairs[name].reference, reference)) for name in tested}
    numeric = [name for name in tested if pairs[name].column.kind == "numeric"]
    return Frames(
        current=pd.DataFrame(current),
        reference=pd.DataFrame(then),
        methods={name: PREFIX + result.test for name, result in tested.items()},
        limits={name: float(result.limit or 0.0) for name, result in tested.items()},
        numeric=numeric,
        categorical=[name for name in tested if name not in numeric],
    )


def datasets(pair: Frames) -> tuple[object, object]:
    """Current and reference as Evidently datasets, with every column's type said, none guessed."""
    engine = evidently()
    definition = engine.DataDefinition(numerical_columns=pair.numeric, categorical_columns=pair.categorical)
    return (
        engine.Dataset.from_pandas(pair.current, data_definition=definition),
        engine.Dataset.from_pandas(pair.reference, data_definition=definition),
    )


def prepared(column: ColumnProfile, values: Array) -> Array:
    """The column as it is tested: float64 with NaN for what is not finite, or category text with None for it."""
    numbers = np.asarray(values, np.float64)
    finite = np.isfinite(numbers)
    if column.kind == "numeric":
        return np.where(finite, numbers, np.nan)
    text = np.full(len(numbers), None, object)
    text[finite] = [_category(column, value) for value in numbers[finite]]
    return text


def _category(column: ColumnProfile, value: float) -> str:
    text = code(value)
    return text if text in (column.categories or ()) else OTHER


def _shown(column: ColumnProfile, summary: ColumnSummary, rows: Mapping[str, Array]) -> Array:
    if summary.rows <= min(MOST, summary.most) and column.name in rows:
        return prepared(column, rows[column.name])
    return expanded(summary, np.random.default_rng(zlib.crc32(column.name.encode())))  # each in an order of its own
