"""The two data frames and the named tests that Evidently gets: one choice, for the verdict and for its page alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trimtab.errors import RegistryError
from trimtab.monitoring.homogeneity import NAME as TWO_SAMPLE
from trimtab.monitoring.profile import ColumnProfile, Profile, code

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray
OTHER = "other"
TESTS_A_COLUMN = 2


@dataclass(frozen=True)
class Frames:
    """What can be tested.

    Attributes:
        current, reference: one column each for the names in `methods`; float64 with NaN, or text with None.
        methods: column → name of the Evidently test.
        threshold: level of every single test.
    """

    current: pd.DataFrame
    reference: pd.DataFrame
    methods: Mapping[str, str]
    threshold: float

    @property
    def numeric(self) -> list[str]:
        """Columns tested as numbers."""
        return [name for name, method in self.methods.items() if method != TWO_SAMPLE]

    @property
    def categorical(self) -> list[str]:
        """Columns tested as categories."""
        return [name for name, method in self.methods.items() if method == TWO_SAMPLE]


def threshold(profile: Profile, alpha: float) -> float:
    """Level of one test (Bonferroni): two tests a column, its distribution and its share of unusable values."""
    return alpha / (TESTS_A_COLUMN * len(profile.columns))


def frames(window: Mapping[str, Array], reference: Mapping[str, Array], profile: Profile, alpha: float) -> Frames:
    """Frames of the columns that hold a finite value on both sides; the others would stop Evidently's whole report.

    Args:
        window, reference: name → (n,) and (m,) columns; n may differ between columns.
        profile: says which column is of which kind.
        alpha: family-wise level over all columns.

    Raises:
        RegistryError: the reference columns are not those of the profile.
    """
    import pandas as pd

    absent = [column.name for column in profile.columns if column.name not in reference]
    if absent:
        raise RegistryError(
            f"the reference has no column {absent[0]!r}", where="reference columns", fix="register the release again"
        )
    usable = [column for column in profile.columns if _usable(column, window, reference)]
    return Frames(
        # A Series each, because columns may differ in length: the shorter are filled with NaN, which is not tested.
        current=pd.DataFrame({column.name: pd.Series(prepared(column, window[column.name])) for column in usable}),
        reference=pd.DataFrame({column.name: pd.Series(prepared(column, reference[column.name])) for column in usable}),
        methods={column.name: "ks" if column.kind == "numeric" else TWO_SAMPLE for column in usable},
        threshold=threshold(profile, alpha),
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
    # What a constant column changed to does not matter, and could be one category a row.
    return OTHER if column.kind == "constant" and column.categories and text not in column.categories else text


def _usable(column: ColumnProfile, window: Mapping[str, Array], reference: Mapping[str, Array]) -> bool:
    if column.kind == "empty" or column.name not in window:
        return False
    return all(np.isfinite(side[column.name]).any() for side in (window, reference))
