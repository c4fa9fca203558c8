"""How long an epoch of fine-tuning takes here, so that a search can be planned into its time."""

from __future__ import annotations

import copy
import time

import numpy as np

from trimtab.candidate import Candidate
from trimtab.compress.distil import distil
from trimtab.compress.opening import open_torch
from trimtab.data import Split, from_arrays
from trimtab.optimize.augmenting import augment_of
from trimtab.recipe.schema import Distil
from trimtab.workbench import Workbench

BATCHES = 12
ROUNDS = 2  # the first is the warm-up


def seconds_an_epoch(bench: Workbench, original: Candidate, settings: Distil) -> float:
    """Of the uncut original: a few batches are trained on and timed, the result is thrown away.

    The part of an epoch that is judging on the validation split is left out, and what starting a training takes is
    counted with the batches: on small data the figure is too large, never much too small.
    """
    teacher, train = open_torch(bench, original), bench.splits["train"]
    rows = min(len(train), BATCHES * settings.batch_size)
    few, one = _first(train, rows), _first(bench.splits["validation"], settings.batch_size)
    short = settings.model_copy(update={"epochs": 1})
    seconds = 0.0
    for _ in range(ROUNDS):
        student = copy.deepcopy(teacher)
        start = time.perf_counter()
        distil(student, teacher, few, one, short, forward=bench.forward, seed=0, augment=augment_of(bench))
        seconds = time.perf_counter() - start
    return seconds * len(train) / rows


def _first(split: Split, rows: int) -> Split:
    """Rows spread over a split, so that no class is missing."""
    chosen = np.linspace(0, len(split) - 1, min(rows, len(split))).round().astype(np.int64)
    return from_arrays(
        split.name, {name: values[chosen] for name, values in split.inputs.items()}, split.labels[chosen]
    )
