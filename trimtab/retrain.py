"""Labelled rows of the journal as training data: a part to train on, a part held out as proof."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trimtab.data import Array, Split, from_arrays
from trimtab.errors import DataError

LEAST_ROWS = 20


@dataclass(frozen=True)
class NewRows:
    """What a retrain adds.

    Attributes:
        train: rows to train on besides the base data.
        held_out: rows nothing is trained on; the gate and the new reference profile are measured on them.
        verdict: digest of the verdict that caused it.
    """

    train: Split
    held_out: Split
    verdict: str


def divide(inputs: Mapping[str, Array], labels: Array, ids: Sequence[str], holdout: float, verdict: str) -> NewRows:
    """Divide labelled rows by a hash of their request id, so that the same row always falls on the same side.

    Args:
        inputs: name → (n, ...). labels: int64 (n,), -1 where no label has arrived. ids: request id a row.
        holdout: share held out.

    Raises:
        DataError: fewer than 20 labelled rows on either side.
    """
    labelled = np.flatnonzero(labels >= 0)
    draw = np.array([int(hashlib.sha256(ids[int(i)].encode()).hexdigest()[:8], 16) / 2**32 for i in labelled])
    parts = {"train": labelled[draw >= holdout], "today": labelled[draw < holdout]}
    for name, rows in parts.items():
        if len(rows) < LEAST_ROWS:
            raise DataError(
                f"{len(rows)} labelled journal rows for {name!r}, a retrain wants at least {LEAST_ROWS}",
                where="monitoring.holdout",
                fix="wait for more labels, or widen monitoring.window.rows",
            )
    train, held_out = (
        from_arrays(name, {key: values[rows] for key, values in inputs.items()}, labels[rows])
        for name, rows in parts.items()
    )
    return NewRows(train, held_out, verdict)
