"""Batches of a split, in an order drawn from the seed.

Data stay in tensors and a batch is one slice of them: a DataLoader that collates row by row costs several times the
step of a small network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from trimtab.data import Split
from trimtab.recipe.schema import Train


@dataclass(frozen=True)
class Batch:
    """What a loss is computed on, besides the logits.

    Attributes:
        inputs: name → (b, ...), raw, as the model saw them: augmented when there is an augmentation.
        labels: int64 (b,), or float32 (b, k).
        rows: int64 (b,), indices into the training split.
    """

    inputs: Mapping[str, Tensor]
    labels: Tensor
    rows: Tensor


def batches(split: Split, settings: Train) -> DataLoader[tuple[Tensor, ...]]:
    """Batches [one tensor an input, labels (b,), rows (b,)]; `rows` are indices into the split."""
    rows, size = len(split), batch_size(split, settings)
    dataset = TensorDataset(*tensors(split).values(), torch.from_numpy(split.labels), torch.arange(rows))
    order = RandomSampler(dataset, generator=torch.Generator().manual_seed(settings.seed))
    # batch_size=None: the sampler yields a list of rows and TensorDataset takes them in one slice.
    return DataLoader(
        dataset,
        sampler=BatchSampler(order, size, drop_last=_last_is_alone(rows, size)),
        batch_size=None,
        num_workers=0,
    )


def batch_size(split: Split, settings: Train) -> int:
    """Rows of a full batch: all of them for gradient descent."""
    return len(split) if settings.optimizer == "gd" else settings.batch_size


def rows_an_epoch(split: Split, settings: Train) -> int:
    """Rows an epoch trains on: all, but for a last batch of one row."""
    rows = len(split)
    return rows - _last_is_alone(rows, batch_size(split, settings))


def tensors(split: Split) -> dict[str, Tensor]:
    """The inputs as tensors that share the split's memory: name → (n, ...)."""
    return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in split.inputs.items()}


def _last_is_alone(rows: int, size: int) -> bool:
    # A last batch of one row would stop batch norm ("more than 1 value per channel"): it is left out.
    return rows % size == 1 and rows > size
