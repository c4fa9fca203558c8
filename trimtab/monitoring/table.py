"""A window that lies in a Parquet file: its columns are read one at a time, so that memory holds one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from trimtab.errors import DataError
from trimtab.monitoring.performance import exact_accuracy
from trimtab.monitoring.profile import Given, Profile, describe

Array = np.ndarray


class ParquetColumns(Mapping[str, Array]):
    """The columns of a Parquet file: name → (n,), read when asked for and not kept. Nulls of numbers are NaN.

    Args:
        path: the file.

    Raises:
        DataError: it is not there, or is not Parquet.
    """

    def __init__(self, path: Path | str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            self._file = pq.ParquetFile(path)  # mapped into memory its pages would count as ours
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"cannot be read as Parquet: {error}", where=str(path), fix="give a Parquet file") from None
        self._names = tuple(self._file.schema_arrow.names)

    @property
    def rows(self) -> int:
        """How many rows the file has."""
        return int(self._file.metadata.num_rows)

    def __getitem__(self, name: str) -> Array:
        import pyarrow as pa

        if name not in self._names:
            raise KeyError(name)
        found: Array = self._file.read(columns=[name]).column(0).to_numpy()
        pa.default_memory_pool().release_unused()
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._names  # without reading it

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def table_profile(
    columns: Mapping[str, Array], predicted: str, label: str, given: Mapping[str, Given] | None = None
) -> Profile:
    """The profile of a table of scored rows, to compare other tables with.

    Args:
        columns: name → (n,), those of `predicted` and `label` class indices.
        given: column → kind, where its values mislead.

    Raises:
        DataError: it lacks one of the two.
    """
    for name in (predicted, label):
        if name not in columns:
            raise DataError(f"has no column {name!r}", where="table", fix="name the columns of predictions and labels")
    answers, true = np.asarray(columns[predicted]), np.asarray(columns[label])
    classes = int(max(answers.max(), true.max())) + 1
    known = {predicted: np.arange(classes), label: np.arange(classes)}
    described = tuple(describe(name, columns[name], known.get(name), given or {}) for name in columns)
    return Profile(len(true), classes, {}, described, exact_accuracy(answers, true))
