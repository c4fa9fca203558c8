"""Breast-cancer diagnosis (569 rows of 30 figures, scikit-learn ships them) and a torch MLP for it."""

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.utils.data import TensorDataset

CUTS = {"train": (0, 289), "validation": (289, 389), "gate": (389, 569)}


def _table() -> tuple[np.ndarray, np.ndarray]:
    features, labels = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(11).permutation(len(labels))
    return features[order].astype(np.float32), labels[order]


def split(name: str) -> TensorDataset:
    """One split: float32 features (n, 30) in their own units, int64 labels (n,)."""
    features, labels = _table()
    first, last = CUTS[name]
    return TensorDataset(torch.from_numpy(features[first:last]), torch.from_numpy(labels[first:last]))


class Standardize(nn.Module):
    """(x - mean) / std of the training rows, kept with the weights."""

    def __init__(self, features: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(features.mean(0)))
        self.register_buffer("std", torch.from_numpy(features.std(0)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) / self.std


def build(hidden: int = 256) -> nn.Module:
    """Logits (n, 2) from features (n, 30)."""
    first, last = CUTS["train"]
    return nn.Sequential(
        Standardize(_table()[0][first:last]),
        nn.Linear(30, hidden),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 2),
    )
