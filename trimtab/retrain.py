"""Labelled rows of the journal as training data: parts to train on, to stop early on, and held out as proof."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trimtab.data import Array, Split, from_arrays
from trimtab.errors import DataError

Part = tuple[dict[str, Array], Array, list[str]]  # inputs, labels and ids of some rows
LEAST_ROWS = 20
VALIDATION_SHARE = 0.2  # of what is not held out: early stopping must see today's rows too, not only the base's


@dataclass(frozen=True)
class NewRows:
    """What a retrain adds.

    Attributes:
        train: rows to train on besides the base data.
        validation: rows that join the base's validation data.
        held_out: rows nothing is trained on; the gate and the new reference profile are measured on them.
        verdict: digest of the verdict that caused it.
    """

    train: Split
    validation: Split
    held_out: Split
    verdict: str


def together(parts: Sequence[Part], where: str) -> Part:
    """The rows of several windows, with the inputs that all of them have.

    Args:
        parts: one or more. where: for the message.

    Raises:
        DataError: rows of an input have another size in one window than in another.
    """
    inputs: dict[str, Array] = {}
    for name in sorted(set.intersection(*(set(held) for held, _, _ in parts))):
        sizes = sorted({held[name].shape[1:] for held, _, _ in parts})
        if len(sizes) > 1:
            raise DataError(
                f"rows of {name!r} are of the sizes {sizes} in these windows: a retrain wants one size",
                where=where,
                fix="let requests be padded to the size of the data, or retrain by hand",
            )
        inputs[name] = np.concatenate([held[name] for held, _, _ in parts])
    return inputs, np.concatenate([labels for _, labels, _ in parts]), [one for _, _, ids in parts for one in ids]


def divide(inputs: Mapping[str, Array], labels: Array, ids: Sequence[str], holdout: float, verdict: str) -> NewRows:
    """Divide labelled rows by a hash of their request id, so that the same row always falls on the same side.

    Args:
        inputs: name → (n, ...). ids: request id a row.
        labels: int64 (n,), -1 where no label has arrived; of a regression float (n,), NaN there.
        holdout: share held out.

    Raises:
        DataError: fewer than 20 labelled rows to train on, or held out.
    """
    numbers = labels.dtype.kind == "f"
    labelled = np.flatnonzero(np.isfinite(labels) if numbers else labels >= 0)
    if numbers:
        labels = labels.astype(np.float32).reshape(-1, 1)
    draw = np.array([int(hashlib.sha256(ids[int(i)].encode()).hexdigest()[:8], 16) / 2**32 for i in labelled])
    checked = holdout + (1 - holdout) * VALIDATION_SHARE
    parts = {
        "train": labelled[draw >= checked],
        "validation": labelled[(draw >= holdout) & (draw < checked)],
        "today": labelled[draw < holdout],
    }
    for name, rows in parts.items():
        if len(rows) < LEAST_ROWS and name != "validation":
            raise DataError(
                f"{len(rows)} labelled journal rows for {name!r}, a retrain wants at least {LEAST_ROWS}",
                where="monitoring.holdout",
                fix="wait for more labels, or widen monitoring.window.rows",
            )
    train, validation, held_out = (
        from_arrays(name, {key: values[rows] for key, values in inputs.items()}, labels[rows])
        for name, rows in parts.items()
    )
    return NewRows(train, validation, held_out, verdict)
