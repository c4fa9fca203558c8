"""Transformer encoder for sequences (n, steps, features) of a fixed number of steps."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trimtab.optimize.architectures.arguments import check_choice, check_counts, check_dropout

Positions = Literal["learned", "sinusoidal"]


def attention(
    features: int,
    classes: int,
    steps: int,
    width: int = 32,
    heads: int = 4,
    layers: int = 2,
    expansion: int = 2,
    positions: Positions = "learned",
    dropout: float = 0.1,
) -> nn.Sequential:
    """Linear embedding plus positions, pre-norm encoder layers, mean over the steps, linear head.

    Vaswani et al. 2017, "Attention Is All You Need", arXiv:1706.03762; the layer norm comes before each sublayer, as
    in Xiong et al. 2020, arXiv:2002.04745, which trains without a warm-up.

    The module takes float32 (n, steps, features) and gives logits float32 (n, classes). It is written with plain
    linear layers and `scaled_dot_product_attention`: `nn.TransformerEncoderLayer` has a fast path that exporters and
    pruning cannot see into. The width and the hidden units of the feed-forward networks are pruned, heads are not.

    Args:
        features: values a step.
        classes: number of logits; of a regression, numbers a row.
        steps: steps of every sequence.
        width: values a step inside the network; a multiple of `heads`.
        heads: attention heads, of width / heads values each.
        layers: encoder layers.
        expansion: the feed-forward network inside a layer has expansion * width hidden units.
        positions: "learned", or "sinusoidal" for the fixed sines and cosines of the paper.
        dropout: probability that a value is dropped in training: after the embedding and of each sublayer's answer.

    Raises:
        ValueError: an argument is not allowed. In forward, RuntimeError: sequences of another number of steps.
    """
    check_counts(features=features, classes=classes, steps=steps, width=width)
    check_counts(heads=heads, layers=layers, expansion=expansion)
    check_choice("positions", positions, get_args(Positions))
    check_dropout(dropout)
    if width % heads:
        raise ValueError(f"width is {width}: give a multiple of heads, which is {heads}")
    layer = [(f"layer{n + 1}", EncoderLayer(width, heads, expansion * width, dropout)) for n in range(layers)]
    return nn.Sequential(
        OrderedDict(
            [
                ("embedding", Embedding(features, steps, width, positions)),
                ("dropout", nn.Dropout(dropout)),
                *layer,
                ("norm", nn.LayerNorm(width)),
                ("mean", MeanOverSteps()),
                ("head", nn.Linear(width, classes)),
            ]
        )
    )


class Embedding(nn.Module):
    """(n, steps, features) → linear, plus one vector a position → (n, steps, width)."""

    def __init__(self, features: int, steps: int, width: int, positions: Positions) -> None:
        super().__init__()
        self.linear = nn.Linear(features, width)
        # A frozen parameter, not a buffer, where they are fixed: pruning the width cuts parameters only.
        learned = positions == "learned"
        start = torch.randn(1, steps, width) * 0.02 if learned else sinusoids(steps, width).unsqueeze(0)
        self.positions = nn.Parameter(start, requires_grad=learned)

    def forward(self, value: Tensor) -> Tensor:
        """(n, steps, features) → (n, steps, width)."""
        return self.linear(value) + self.positions


class SelfAttention(nn.Module):
    """Multi-head self-attention, (n, steps, width) → (n, steps, width).

    Each head takes its own width / heads channels of query, key and value. That number is fixed: pruning, which would
    take more channels from one head than from another, is stopped by it and leaves query, key and value whole.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, value: Tensor) -> Tensor:
        """(n, steps, width) → (n, steps, width)."""
        query, key, values = (self._split(layer(value)) for layer in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(query, key, values)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _split(self, value: Tensor) -> Tensor:
        """(n, steps, width) → (n, heads, steps, head_width)."""
        return value.unflatten(2, (self.heads, self.head_width)).transpose(1, 2)


class FeedForward(nn.Sequential):
    """Linear → GELU → Linear at each step, (n, steps, width) → (n, steps, width)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class EncoderLayer(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)): (n, steps, width) → (n, steps, width)."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), SelfAttention(width, heads)
        self.norm2, self.feed_forward = nn.LayerNorm(width), FeedForward(width, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, value: Tensor) -> Tensor:
        """(n, steps, width) → (n, steps, width)."""
        value = value + self.dropout(self.attention(self.norm1(value)))
        return value + self.dropout(self.feed_forward(self.norm2(value)))


class MeanOverSteps(nn.Module):
    """(n, steps, width) → (n, width)."""

    def forward(self, value: Tensor) -> Tensor:
        """(n, steps, width) → (n, width)."""
        return value.mean(1)


def sinusoids(steps: int, width: int) -> Tensor:
    """Fixed positions of Vaswani et al. 2017, section 3.5: even channels sine, odd ones cosine of the same angle.

    Returns:
        float32 (steps, width). Worked example: position 0 is 0, 1, 0, 1, …
    """
    channel = torch.arange(width)
    rate = torch.exp(-math.log(10000.0) * (channel - channel % 2) / width)
    angle = torch.arange(steps).unsqueeze(1) * rate
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos())
