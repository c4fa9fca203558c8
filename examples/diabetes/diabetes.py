"""Progression of diabetes a year on (442 rows of 10 figures, scikit-learn ships them) and a torch MLP for it."""

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from torch import Tensor, nn
from torch.utils.data import TensorDataset

CUTS = {"train": (0, 200), "validation": (200, 292), "gate": (292, 442)}
MEAN, SPREAD = 152.0, 77.0  # of the labels


def _table() -> tuple[np.ndarray, np.ndarray]:
    features, labels = load_diabetes(return_X_y=True)
    order = np.random.default_rng(11).permutation(len(labels))
    return features[order].astype(np.float32), labels[order].astype(np.float32)


def split(name: str) -> TensorDataset:
    """One split: float32 features (n, 10), each of standard deviation 1/21, and float32 labels (n,)."""
    features, labels = _table()
    first, last = CUTS[name]
    return TensorDataset(torch.from_numpy(features[first:last]), torch.from_numpy(labels[first:last]))


def slices(name: str, inputs: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """Rows of a split by sex, as the table codes it; of a window of the journal, whose inputs are given."""
    if inputs is None:
        features, _ = _table()
        first, last = CUTS[name]
        features = features[first:last]
    else:
        features = inputs["input"]
    sex = features[:, 1] > 0
    return {"sex 1": ~sex, "sex 2": sex}


class Progression(nn.Module):
    """Numbers (n,) in the unit of the labels: the network itself works with numbers around 0."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(10, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.body(features).squeeze(-1) * SPREAD + MEAN


def build(hidden: int = 64) -> nn.Module:
    """The network, untrained."""
    return Progression(hidden)
