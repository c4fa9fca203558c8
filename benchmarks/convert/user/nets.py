"""The five networks, as a user's module beside a recipe: what an eager release takes along."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.compress.cifar import ResNet
from trimtab.optimize.architectures.mlp import mlp
from trimtab.optimize.architectures.rnn import rnn


class DigitsCNN(nn.Module):
    """Two convolutions with batch norm and max pooling over 8x8 images."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(32 * 4, 10)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, 1, 8, 8) → logits (n, 10)."""
        return self.layers(x)


class TokenTransformer(nn.Module):
    """A transformer encoder over integer tokens and their segments: two named integer inputs."""

    def __init__(self, vocabulary: int = 17, segments: int = 8, width: int = 32, steps: int = 64) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.segments = nn.Embedding(segments, width)
        self.positions = nn.Parameter(torch.randn(1, steps, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, tokens: Tensor, segments: Tensor) -> Tensor:
        """Tokens and segments int64 (n, 64) → logits (n, 10)."""
        x = self.tokens(tokens) + self.segments(segments) + self.positions
        return self.head(self.encoder(x).mean(1))


def digits_cnn() -> nn.Module:
    """Of images (n, 1, 8, 8)."""
    return DigitsCNN()


def resnet20() -> nn.Module:
    """Of images (n, 3, 32, 32), with option-A shortcuts."""
    return ResNet()


def gru() -> nn.Module:
    """Of sequences (n, 8, 8)."""
    return rnn(8, 10, hidden=32)


def transformer() -> nn.Module:
    """Of tokens and segments (n, 64)."""
    return TokenTransformer()


def tabular_mlp() -> nn.Module:
    """Of tables (n, 30), two classes."""
    return mlp(30, 2)
