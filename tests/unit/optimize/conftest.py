"""Networks here are tiny: a second torch thread costs more than it gives, most of all beside other work."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from trimtab.data import Split, from_arrays

Blobs = Callable[[int, int], Split]


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def blobs() -> Blobs:
    """(rows, seed) → a split of 4 numbers a row and 3 classes that a linear model can tell apart, not perfectly."""

    def make(rows: int, seed: int) -> Split:
        draw = np.random.default_rng(seed)
        labels = draw.integers(0, 3, rows)
        labels[:3] = (0, 1, 2)
        values = draw.normal(size=(rows, 4)) + np.eye(4)[labels] * 2
        return from_arrays("train", {"input": values.astype(np.float32)}, labels.astype(np.int64))

    return make
