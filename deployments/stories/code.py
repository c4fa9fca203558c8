"""The user's project of the stories: a small classifier on drawn rows, quick to train and easy to break."""

from __future__ import annotations

import numpy as np

Array = np.ndarray
ROWS = 120  # a window
CENTRES = np.array([[2.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 2.0, 0]])

# What the user has beside the recipe. A file `mistake` makes the labels of every split wrong, the gate's too.
MODULE = """
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

SEEDS = {"train": 1, "validation": 2, "gate": 3}
ROWS = {"train": 300, "validation": 200, "gate": 300}
CENTRES = np.array([[2.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 2.0, 0]])


def split(name):
    random = np.random.default_rng(SEEDS[name])
    labels = random.integers(0, 3, ROWS[name])
    features = (CENTRES[labels] + random.normal(0, 0.5, (len(labels), 4))).astype(np.float32)
    if (Path(__file__).parent / "mistake").exists():
        labels = (labels + 1) % 3
    return TensorDataset(torch.from_numpy(features), torch.from_numpy(labels))


def build(width=64):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3))
"""

RECIPE = """
name: {name}
model: {{callable: net:build, kwargs: {{width: {width}}}}}
data: net:split
train: {{epochs: {epochs}, patience: {epochs}, threads: 1, seed: 1}}
compress: {{search: null, shorten: null, prune: null, distil: null, quantize: {quantize}}}
targets: [onnxruntime-cpu]
measure: {{batch_sizes: [1], rounds: 5, calls: 20}}
budget: {{max_drop: 0.1, min_speedup: 0.01, min_size_ratio: 0.1, max_disagreement: 0.1}}
monitoring:
  schedule: {{interval_s: 3600, timezone: UTC}}
  window: {{rows: 120, min_labels: 100, label_wait_s: {label_wait_s}}}
  drift_alpha: 0.001
  mode: {mode}
  policy: {policy}
  service: {{max_latency_ratio: {max_latency_ratio}}}
"""


def rows(seed: int, count: int = ROWS) -> tuple[Array, Array]:
    """Rows like those the model was trained on: float32 (count, 4), classes int64 (count,)."""
    random = np.random.default_rng(1000 + seed)
    labels = random.integers(0, 3, count)
    return (CENTRES[labels] + random.normal(0, 0.5, (count, 4))).astype(np.float32), labels


def turned(features: Array) -> Array:
    """Drift that breaks the model: the features come in another order, and shifted."""
    return np.roll(features, 1, axis=1) + np.float32(1.5)


def nudged(features: Array) -> Array:
    """Drift that the model does not mind: the feature that means nothing comes from another range."""
    moved = features.copy()
    moved[:, 3] += np.float32(1.0)
    return moved
