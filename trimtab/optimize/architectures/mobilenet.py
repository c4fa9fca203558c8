"""Depthwise-separable residual network for images (n, channels, height, width): few parameters, few operations."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from trimtab.optimize.architectures.arguments import check_counts, check_dropout, check_widths


def mobilenet(
    channels: int,
    classes: int,
    widths: Sequence[int] = (16, 24, 40),
    blocks: int = 2,
    expansion: int = 4,
    dropout: float = 0.1,
) -> nn.Sequential:
    """3×3 stem, a stage of inverted residual blocks a width, average pooling, linear head.

    Depthwise-separable convolutions: Howard et al. 2017, "MobileNets", arXiv:1704.04861. Inverted residuals with
    linear bottlenecks: Sandler et al. 2018, "MobileNetV2", arXiv:1801.04381. Sized for small images: the stem keeps
    the resolution, where the papers' halves it.

    The module takes float32 (n, channels, height, width) of any size and gives logits float32 (n, classes); each
    stage but the first halves height and width.

    Args:
        channels: channels of the image, 1 for grey, 3 for RGB.
        classes: number of logits; of a regression, numbers a row.
        widths: channels between the blocks of each stage; multiples of 8 prune and quantize best.
        blocks: inverted residual blocks in each stage.
        expansion: the depthwise convolution inside a block has this many times the channels that enter the block.
        dropout: probability that a feature of the head is dropped in training; 0 leaves the layer out.

    Raises:
        ValueError: an argument is not allowed.
    """
    check_counts(channels=channels, classes=classes, blocks=blocks, expansion=expansion)
    check_widths(widths)
    check_dropout(dropout)
    layers: list[tuple[str, nn.Module]] = [("stem", _convolution(channels, widths[0], kernel=3))]
    width = widths[0]
    for number, wider in enumerate(widths):
        layers.append((f"stage{number + 1}", _stage(width, wider, blocks, expansion, stride=1 if number == 0 else 2)))
        width = wider
    layers += [("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten())]
    if dropout > 0:
        layers.append(("dropout", nn.Dropout(dropout)))
    return nn.Sequential(OrderedDict([*layers, ("head", nn.Linear(width, classes))]))


class InvertedResidual(nn.Module):
    """1×1 expansion → 3×3 depthwise → linear 1×1 projection: (n, width, h, w) → (n, wider, h / stride, w / stride).

    Where the shape stays, the input is added to the result. The projection has no activation after it.
    """

    def __init__(self, width: int, wider: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = width * expansion
        self.expand = _convolution(width, inner, kernel=1)
        self.depthwise = _convolution(inner, inner, kernel=3, stride=stride, groups=inner)
        self.project = nn.Sequential(nn.Conv2d(inner, wider, 1, bias=False), nn.BatchNorm2d(wider))
        self.residual = (width, stride) == (wider, 1)

    def forward(self, value: Tensor) -> Tensor:
        """(n, width, h, w) → (n, wider, h / stride, w / stride), sizes rounded up."""
        answer = self.project(self.depthwise(self.expand(value)))
        return value + answer if self.residual else answer


def _stage(width: int, wider: int, blocks: int, expansion: int, stride: int) -> nn.Sequential:
    first = InvertedResidual(width, wider, expansion, stride)
    return nn.Sequential(first, *(InvertedResidual(wider, wider, expansion, stride=1) for _ in range(blocks - 1)))


def _convolution(width: int, wider: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU6: the bounded activation quantizes with a known range."""
    layer = nn.Conv2d(width, wider, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(wider), nn.ReLU6())
