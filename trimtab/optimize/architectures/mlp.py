"""Multi-layer perceptron for flat inputs (n, features)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def mlp(features: int, classes: int, hidden: Sequence[int] = (64, 64), dropout: float = 0.1) -> nn.Sequential:
    """Linear → ReLU → Dropout for each hidden width, then a Linear to the logits.

    Args:
        features: values a row; inputs of higher rank are flattened first.
        classes: number of logits; of a regression, numbers a row.
        hidden: widths of the hidden layers; multiples of 8 prune and quantize best.
        dropout: probability that a hidden unit is dropped in training; 0 leaves the layer out.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    width = features
    for wider in hidden:
        layers += [nn.Linear(width, wider), nn.ReLU()]
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
        width = wider
    return nn.Sequential(*layers, nn.Linear(width, classes))
