"""1,797 real handwritten digits (8x8, scikit-learn ships them), split once by source image, and a drift to meet."""

import numpy as np
import torch
from scipy import ndimage
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

SIZES = {"train": 597, "validation": 250, "gate": 450, "traffic-1": 250, "traffic-2": 250}
SUFFIX = "-drifted"


def split(name: str) -> TensorDataset:
    """One split: float32 images (n, 1, 8, 8) in 0..16 and int64 labels (n,).

    A name that ends in "-drifted" is the same split under the drift: another camera, held at an angle.
    """
    base = name.removesuffix(SUFFIX)
    if base not in SIZES:
        raise ValueError(f"unknown split {name!r}; there are {', '.join(SIZES)}, each also with {SUFFIX}")
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(20260301).permutation(len(labels))
    start = sum(size for other, size in SIZES.items() if list(SIZES).index(other) < list(SIZES).index(base))
    rows = order[start : start + SIZES[base]]
    batch = images[rows].reshape(-1, 1, 8, 8).astype(np.float32)
    if name.endswith(SUFFIX):
        batch = drift(batch, seed=start)
    return TensorDataset(torch.from_numpy(batch), torch.from_numpy(labels[rows]))


def drift(images: np.ndarray, seed: int) -> np.ndarray:
    """Lower contrast, a rotation of 20 to 35 degrees, sensor noise; float32 (n, 1, 8, 8) in 0..16."""
    random = np.random.default_rng(seed)
    turned = np.stack([ndimage.rotate(i[0], random.uniform(20, 35), reshape=False, order=1)[None] for i in images])
    noisy = 0.8 * turned + 1.0 + random.normal(0, 0.8, turned.shape)
    return np.clip(noisy, 0, 16).astype(np.float32)
