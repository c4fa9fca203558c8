"""One trained model of each family, shared by all tests here: a copy is taken by whoever changes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from trimtab.optimize.architectures.attention import attention
from trimtab.optimize.architectures.mobilenet import mobilenet
from trimtab.optimize.architectures.resnet import resnet
from trimtab.optimize.architectures.rnn import rnn

IMAGE, SEQUENCE = (2, 7, 6), (6, 4)
FAMILIES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet": (lambda: resnet(2, 3, widths=(8, 16), blocks=2), IMAGE),
    "mobilenet": (lambda: mobilenet(2, 3, widths=(8, 16), blocks=2, expansion=2, dropout=0.0), IMAGE),
    "gru": (lambda: rnn(4, 3, hidden=16, dropout=0.0), SEQUENCE),
    "lstm": (lambda: rnn(4, 3, hidden=16, layers=2, cell="lstm", state="mean"), SEQUENCE),
    "attention": (lambda: attention(4, 3, 6, width=16, heads=2), SEQUENCE),
    "sinusoidal": (lambda: attention(4, 3, 6, width=16, heads=2, layers=1, positions="sinusoidal"), SEQUENCE),
}


@dataclass
class Trained:
    """A family's model after some steps of training, in eval mode."""

    name: str
    model: nn.Module
    losses: list[float]

    def build(self) -> nn.Module:
        return FAMILIES[self.name][0]()

    def rows(self, n: int, seed: int = 0) -> dict[str, np.ndarray]:
        shape = (n, *FAMILIES[self.name][1])
        return {"input": np.random.default_rng(seed).standard_normal(shape).astype(np.float32)}

    def answer(self, n: int, model: nn.Module | None = None, seed: int = 0) -> torch.Tensor:
        with torch.no_grad():
            return (model or self.model)(torch.from_numpy(self.rows(n, seed)["input"]))


@pytest.fixture(scope="session")
def families() -> dict[str, Trained]:
    return {name: _trained(name) for name in FAMILIES}


def _trained(name: str) -> Trained:
    build, shape = FAMILIES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build()
        values = torch.randn(48, *shape)
        # The class is told by the mean of the first channel's or feature's values: every family can learn it.
        first = values[:, 0].flatten(1) if len(shape) == 3 else values[:, :, 0]
        labels = torch.bucketize(first.mean(1) * first.shape[1] ** 0.5, torch.tensor([-0.43, 0.43]))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        losses = []
        for _ in range(40):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(values), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return Trained(name, model.eval(), losses)
