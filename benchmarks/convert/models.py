"""Five small trained models, each of another kind, on data that comes with scikit-learn.

Each is trained here in seconds, so that a decision means something and a wrong conversion changes some. Validation
rows are those that training has not seen. The ResNet-20 is trained on the digits too, scaled up to 32x32: what is asked
of it is whether its option-A shortcuts survive, not what it knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits
from torch import nn

from benchmarks.convert.user import nets
from trimtab.convert import Code
from trimtab.runtime.eager import call, several

Inputs = dict[str, NDArray[np.generic]]
BATCH, RATE = 64, 2e-3


@dataclass(frozen=True)
class Task:
    """A trained module in eval mode, rows to convert with, and rows to compare on.

    Attributes:
        module: gives logits (n, classes).
        train: inputs name → array (n, ...). validation: likewise, other rows.
        accuracy: share of right answers on the validation rows.
    """

    module: nn.Module
    train: Inputs
    validation: Inputs
    classes: int
    accuracy: float


def trained(module: nn.Module, inputs: Inputs, labels: NDArray[np.int64], classes: int, epochs: int) -> Task:
    """Train on four fifths of the rows with AdamW; the rest is validation."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(labels), generator=generator).numpy()
    cut = len(labels) * 4 // 5
    known, unknown = ({name: values[part] for name, values in inputs.items()} for part in (order[:cut], order[cut:]))
    tensors, y = {name: torch.tensor(values) for name, values in known.items()}, torch.tensor(labels[order[:cut]])
    optimizer = torch.optim.AdamW(module.parameters(), RATE)
    module.train()
    for _ in range(epochs):
        for rows in torch.randperm(cut, generator=generator).split(BATCH):
            loss = F.cross_entropy(call(module, {name: values[rows] for name, values in tensors.items()}), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    module.eval()
    with torch.inference_mode():
        given = several(call(module, {name: torch.tensor(values) for name, values in unknown.items()}))
    answers = given[0].argmax(1).numpy()
    return Task(module, known, unknown, classes, float((answers == labels[order[cut:]]).mean()))


def _digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    images, labels = load_digits(return_X_y=True)
    return images.astype(np.float32) / 16, labels.astype(np.int64)


def digits_cnn() -> Task:
    """Images float32 (n, 1, 8, 8)."""
    images, labels = _digits()
    return trained(nets.digits_cnn(), {"input": images.reshape(-1, 1, 8, 8)}, labels, 10, 10)


def resnet20() -> Task:
    """Images float32 (n, 3, 32, 32)."""
    images, labels = _digits()
    large = np.repeat(np.kron(images.reshape(-1, 1, 8, 8), np.ones((4, 4), np.float32)), 3, axis=1)
    return trained(nets.resnet20(), {"input": large[:600]}, labels[:600], 10, 3)


def gru() -> Task:
    """Sequences float32 (n, 8, 8): the rows of an image, one after the other."""
    images, labels = _digits()
    return trained(nets.gru(), {"input": images.reshape(-1, 8, 8)}, labels, 10, 20)


def transformer() -> Task:
    """Tokens int64 (n, 64), the grey value of a pixel; segments int64 (n, 64), its row."""
    images, labels = _digits()
    tokens = np.rint(images * 16).astype(np.int64)
    segments = np.tile(np.repeat(np.arange(8), 8), (len(tokens), 1)).astype(np.int64)
    return trained(nets.transformer(), {"tokens": tokens, "segments": segments}, labels, 10, 15)


def tabular_mlp() -> Task:
    """Standardised table float32 (n, 30)."""
    table, labels = load_breast_cancer(return_X_y=True)
    scaled = ((table - table.mean(0)) / table.std(0)).astype(np.float32)
    return trained(nets.tabular_mlp(), {"input": scaled}, labels.astype(np.int64), 2, 20)


MODELS: Mapping[str, Callable[[], Task]] = {
    "digits CNN": digits_cnn,
    "ResNet-20": resnet20,
    "GRU": gru,
    "transformer, two integer inputs": transformer,
    "tabular MLP": tabular_mlp,
}


def build(name: str) -> Task:
    """The named model; the same weights each time."""
    torch.manual_seed(0)
    return MODELS[name]()


def code_of(name: str) -> Code:
    """What builds the named model, for the format that takes the code along."""
    factory = MODELS[name].__name__
    return Code(f"nets:{factory}", {}, Path(nets.__file__).parent, getattr(nets, factory))
