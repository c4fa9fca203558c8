"""Residual convolutional network for images (n, channels, height, width)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trimtab.optimize.architectures.arguments import check_counts, check_widths


def resnet(channels: int, classes: int, widths: Sequence[int] = (16, 32, 64), blocks: int = 2) -> nn.Sequential:
    """The CIFAR form of a residual network: 3×3 stem, a stage of basic blocks a width, average pooling, linear head.

    He et al. 2015, "Deep Residual Learning for Image Recognition", arXiv:1512.03385, section 4.2, with shortcuts by
    1×1 convolution where the shape changes ("option B"): zero-padded shortcuts ("option A") cannot be pruned. The
    defaults have 2 * 2 * 3 + 2 = 14 layers and 175 000 parameters.

    The module takes float32 (n, channels, height, width) of any size and gives logits float32 (n, classes); each
    stage but the first halves height and width.

    Args:
        channels: channels of the image, 1 for grey, 3 for RGB.
        classes: number of logits; of a regression, numbers a row.
        widths: channels of each stage; multiples of 8 prune and quantize best.
        blocks: basic blocks (two 3×3 convolutions each) in each stage.

    Raises:
        ValueError: an argument is not allowed.
    """
    check_counts(channels=channels, classes=classes, blocks=blocks)
    check_widths(widths)
    layers: list[tuple[str, nn.Module]] = [("stem", Stem(channels, widths[0]))]
    width = widths[0]
    for number, wider in enumerate(widths):
        layers.append((f"stage{number + 1}", _stage(width, wider, blocks, stride=1 if number == 0 else 2)))
        width = wider
    layers += [("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten()), ("head", nn.Linear(width, classes))]
    return nn.Sequential(OrderedDict(layers))


class Stem(nn.Sequential):
    """3×3 convolution, batch norm, ReLU: (n, channels, h, w) → (n, width, h, w)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


class BasicBlock(nn.Module):
    """relu(shortcut(x) + norm2(conv2(relu(norm1(conv1(x)))))): (n, width, h, w) → (n, wider, h / stride, w / stride).

    The shortcut is the identity where the shape stays, else a 1×1 convolution with batch norm.
    """

    def __init__(self, width: int, wider: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, wider, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(wider)
        self.conv2 = nn.Conv2d(wider, wider, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(wider)
        self.shortcut = _shortcut(width, wider, stride)

    def forward(self, value: Tensor) -> Tensor:
        """(n, width, h, w) → (n, wider, h / stride, w / stride), sizes rounded up."""
        inner = torch.relu(self.norm1(self.conv1(value)))
        return torch.relu(self.norm2(self.conv2(inner)) + self.shortcut(value))


def _stage(width: int, wider: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(width, wider, stride)
    return nn.Sequential(first, *(BasicBlock(wider, wider, stride=1) for _ in range(blocks - 1)))


def _shortcut(width: int, wider: int, stride: int) -> nn.Module:
    if (width, stride) == (wider, 1):
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(width, wider, 1, stride, bias=False), nn.BatchNorm2d(wider))
