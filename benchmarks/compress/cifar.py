"""The task: a ResNet of He et al. 2015 (section 4.2) for CIFAR-10 with option-A shortcuts, a small MobileNet, the data.

This file is also the user code of the recipes: the bench copies it beside them. CIFAR10 names the folder that holds
train.parquet and test.parquet (columns `image: struct<bytes, path>` and `label`).

The weights were trained on every row of train.parquet: 96.6 % of those are answered right and 88.2 % of test.parquet,
so no row of the former can say what a cut costs. What is chosen is chosen on the first 5,000 rows of test.parquet
(`validation`); the final figures, everybody's, are on the other 5,000, which nothing else reads (`gate` is 100 of
them, for a recipe has to name one, and no gate is run). Half and half: on 2,500 rows a drop is known to a point only,
and a network that had lost half a point less on the others was not chosen.
"""

from __future__ import annotations

import io
import os
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import TensorDataset

MEAN, STD = (np.array(v, np.float32) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
VALIDATION_ROWS = 5_000
ROWS = {
    "train": ("train", slice(None)),
    "validation": ("test", slice(0, VALIDATION_ROWS)),
    "gate": ("test", slice(VALIDATION_ROWS, VALIDATION_ROWS + 100)),
    "final": ("test", slice(VALIDATION_ROWS, None)),
}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut without weights: strided, and padded with zero channels."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shrinks, self.pad = stride != 1 or width_in != width, (width - width_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.shrinks:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(x + y)


class ResNet(nn.Module):
    """ResNet of depth 6 n + 2."""

    def __init__(self, depth: int = 20, classes: int = 10) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(BasicBlock(16, 16, 1) for _ in range(blocks)))
        self.layer2 = nn.Sequential(*(BasicBlock(16 if i == 0 else 32, 32, 2 if i == 0 else 1) for i in range(blocks)))
        self.layer3 = nn.Sequential(*(BasicBlock(32 if i == 0 else 64, 64, 2 if i == 0 else 1) for i in range(blocks)))
        self.linear = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


class Inverted(nn.Module):
    """Expand, depthwise 3x3, project; a shortcut where the shape stays (Sandler et al. 2018, "MobileNetV2")."""

    def __init__(self, width_in: int, width: int, stride: int, expand: int = 4) -> None:
        super().__init__()
        inner = expand * width_in
        self.layers = nn.Sequential(
            *(nn.Conv2d(width_in, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU6()),
            *(nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False), nn.BatchNorm2d(inner), nn.ReLU6()),
            *(nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width)),
        )
        self.around = stride == 1 and width_in == width

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.around else self.layers(x)


class MobileNet(nn.Module):
    """A small MobileNetV2 for 32x32 images, 0.2 million parameters."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        widths = [
            (16, 24, 1),
            (24, 24, 1),
            (24, 32, 2),
            (32, 32, 1),
            (32, 32, 1),
            (32, 64, 2),
            (64, 64, 1),
            (64, 64, 1),
        ]
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.blocks = nn.Sequential(*(Inverted(*one) for one in widths))
        self.head = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def resnet() -> nn.Module:
    """What the recipe of the main task names."""
    return ResNet()


def mobilenet() -> nn.Module:
    """What the recipe of the unseen architecture names."""
    return MobileNet()


def images(name: str) -> tuple[np.ndarray, np.ndarray]:
    """All rows of train.parquet or test.parquet: normalised float32 (n, 3, 32, 32) and labels int64 (n,)."""
    table = pq.read_table(Path(os.environ["CIFAR10"]) / f"{name}.parquet")
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(row["bytes"]))) for row in table["image"].to_pylist()])
    scaled = ((pixels.astype(np.float32) / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(scaled), np.asarray(table["label"], np.int64)


@cache
def rows(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A split of ROWS: as `images`."""
    file, part = ROWS[name]
    inputs, labels = images(file)
    return inputs[part].copy(), labels[part].copy()


def split(name: str) -> TensorDataset:
    """The recipe's data."""
    inputs, labels = rows(name)
    return TensorDataset(torch.from_numpy(inputs), torch.from_numpy(labels))


def augment(inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Mirrored half of the time, and shifted by up to four pixels, as the task is usually trained."""
    x = inputs["input"]
    n, channels, height, width = x.shape
    mirrored = torch.rand(n, generator=generator) < 0.5
    x = torch.where(mirrored.view(-1, 1, 1, 1), x.flip(3), x)
    padded = F.pad(x, (4, 4, 4, 4))
    down, right = (torch.randint(0, 9, (n, 1), generator=generator) for _ in range(2))
    rows, columns = down + torch.arange(height), right + torch.arange(width)
    return {
        "input": padded[
            torch.arange(n)[:, None, None, None],
            torch.arange(channels)[None, :, None, None],
            rows[:, None, :, None],
            columns[:, None, None, :],
        ]
    }
