"""Tables of scored rows: 20 numeric columns of many shapes, the predicted class and the label."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trimtab.monitoring.columns import PREDICTED
from trimtab.monitoring.profile import LABEL, Given, Profile
from trimtab.monitoring.table import table_profile

Array = np.ndarray
COLUMNS, CLASSES, ACCURACY = 20, 3, 0.9
REFERENCE_ROWS = 5000
AT_ONCE = 1_000_000
SHIFTED = "c00"  # a normal column
NAMES = tuple(f"c{index:02d}" for index in range(COLUMNS))
NUMERIC: Mapping[str, Given] = dict.fromkeys(NAMES, "numeric")


def table(rng: np.random.Generator, rows: int, shifts: Mapping[str, float] | None = None) -> dict[str, Array]:
    """A table: normal, correlated, heavy-tailed, tied, zero-inflated and partly empty columns, float32 (rows,).

    Args:
        shifts: column → how far its mean is moved, in standard deviations of a normal column.
    """

    def normal() -> Array:
        return rng.standard_normal(rows, np.float32)

    base = normal()
    columns = [normal() for _ in range(6)]
    columns += [np.float32(0.8) * base + np.float32(0.6) * normal() for _ in range(3)]
    columns += [np.exp(2 * normal()), rng.standard_cauchy(rows), rng.standard_exponential(rows, np.float32)]
    columns += [rng.poisson(30, rows), np.round(normal(), 1), np.round(10 * rng.random(rows, np.float32))]
    columns += [np.where(rng.random(rows) < 0.8, 0, rng.standard_exponential(rows)), rng.random(rows, np.float32)]
    columns += [np.where(rng.random(rows) < 0.5, 0, normal()), normal() + 4 * (rng.random(rows) < 0.1)]
    columns.append(np.where(rng.random(rows) < 0.05, np.nan, normal()))
    named = {name: column.astype(np.float32) for name, column in zip(NAMES, columns, strict=True)}
    for name, shift in (shifts or {}).items():
        named[name] = named[name] + np.float32(shift)
    predicted = rng.integers(0, CLASSES, rows, np.int8)
    wrong = rng.random(rows, np.float32) > ACCURACY
    return {**named, PREDICTED: predicted, LABEL: ((predicted + wrong) % CLASSES).astype(np.int8)}


def reference(seed: int) -> tuple[Profile, dict[str, Array]]:
    """The reference of 5,000 rows and its profile."""
    columns = table(np.random.default_rng([seed, 0]), REFERENCE_ROWS)
    return table_profile(columns, PREDICTED, LABEL, NUMERIC), columns


def write(path: Path, rows: int, seed: int, shifts: Mapping[str, float]) -> None:
    """A Parquet file of a window, written a million rows at a time."""
    writer: pq.ParquetWriter | None = None
    for start in range(0, rows, AT_ONCE):
        part = pa.table(table(np.random.default_rng([seed, 1, start]), min(AT_ONCE, rows - start), shifts))
        writer = writer or pq.ParquetWriter(path, part.schema, compression="zstd")
        writer.write_table(part)
    if writer is not None:
        writer.close()
