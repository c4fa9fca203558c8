"""Labelled rows of the journal as training data: parts to train on, to stop early on, and held out as proof."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
        train: rows to train on besides the base data, with the weight of each.
        validation: rows that join the base's validation data, with the same weight where training stops by it.
        held_out: rows nothing is trained on; the gate and the new reference profile are measured on them.
        verdict: digest of the verdict that caused it.
        weight: how many base rows each counts as in training.
        windows: offsets (from, to) in the journal of the windows they are from, oldest first.
    """

    train: Split
    validation: Split
    held_out: Split
    verdict: str
    weight: float = 1.0
    windows: tuple[tuple[int, int], ...] = ()

    def facts(self, warm_start: str | None) -> dict[str, Any]:
        """What the release says of it, JSON-safe.

        Args:
            warm_start: id of the original whose weights training began with; None: it began from scratch.
        """
        parts = {"train": self.train, "validation": self.validation, "held_out": self.held_out}
        return {
            "windows": [list(span) for span in self.windows],
            "rows": {name: len(split) for name, split in parts.items()},
            "weight": self.weight,
            "warm_start": warm_start,
        }


def in_words(facts: Mapping[str, Any]) -> str:
    """One sentence on what a release was retrained with.

    Args:
        facts: as `NewRows.facts` gives them.
    """
    rows, count = facts["rows"], len(facts["windows"])
    spans = ", ".join(f"{lo}–{hi}" for lo, hi in facts["windows"])
    where = f" of {count} window{'s' * (count > 1)} (rows {spans})" if spans else ""
    start = f"from the weights of {facts['warm_start'][:12]}" if facts["warm_start"] else "from scratch"
    return (
        f"{rows['train']} labelled journal rows{where} joined the training data, each with weight {facts['weight']:g} "
        f"beside 1 of a base row; {rows['validation']} joined validation, {rows['held_out']} were held out for the "
        f"gate; training began {start}"
    )


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


def divide(
    inputs: Mapping[str, Array],
    labels: Array,
    ids: Sequence[str],
    holdout: float,
    verdict: str,
    weight: float = 1.0,
    windows: Sequence[tuple[int, int]] = (),
) -> NewRows:
    """Divide labelled rows by a hash of their request id, so that the same row always falls on the same side.

    Args:
        inputs: name → (n, ...). ids: request id a row.
        labels: int64 (n,), -1 where no label has arrived; of a regression float (n,), NaN there.
        holdout: share held out. weight, windows: as `NewRows` has them.

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
    return NewRows(train.weighted(weight), validation.weighted(weight), held_out, verdict, weight, tuple(windows))
