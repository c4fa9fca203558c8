"""A small CNN for 8x8 images, as one would write it in a notebook."""

from torch import nn


def build(widths: tuple[int, int, int] = (32, 64, 64), classes: int = 10) -> nn.Module:
    """Logits (n, classes) from images (n, 1, 8, 8)."""
    first, second, third = widths
    return nn.Sequential(
        nn.Conv2d(1, first, 3, padding=1, bias=False),
        nn.BatchNorm2d(first),
        nn.ReLU(),
        nn.Conv2d(first, second, 3, padding=1, bias=False),
        nn.BatchNorm2d(second),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(second, third, 3, padding=1, bias=False),
        nn.BatchNorm2d(third),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(third * 4, classes),
    )
