"""Confusion matrices: which classes a model mixes up, before and after."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Array = np.ndarray
NEUTRAL = "#7d8590"  # readable on a white and on a dark ground
MOST_NAMED = 20  # classes; beyond it names and numbers would not be readable


def counts(labels: Array, predicted: Array, classes: int) -> Array:
    """Confusion matrix int64 (classes, classes): row = true class, column = predicted class.

    Args:
        labels, predicted: int (n,), each in 0 … classes - 1.
    """
    flat = np.asarray(labels, np.int64) * classes + np.asarray(predicted, np.int64)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def figure(matrix: Array, labels: Sequence[str], title: str) -> Figure:
    """One matrix as an image: colour is the share of the true class, numbers are rows; slips have their own colour."""
    matrix = np.asarray(matrix)
    size = len(matrix)
    drawing = Figure(figsize=(5.2, 5.4), layout="constrained")
    axes = drawing.add_subplot()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    hits = np.eye(size, dtype=bool)
    axes.imshow(np.ma.masked_where(~hits, share), cmap="Blues", vmin=0, vmax=1.3)
    # A slip of 20 % is as strong as the colour gets: slips are few, and they are what one looks for.
    axes.imshow(np.ma.masked_where(hits | (matrix == 0), share), cmap="Oranges", vmin=-0.05, vmax=0.2)
    if size <= MOST_NAMED:
        _write_numbers(axes, matrix, share)
        names = [str(label)[:12] for label in labels]
        rotation = 0 if max(map(len, names)) <= 2 else 45
        axes.set_xticks(range(size), names, rotation=rotation, ha="right" if rotation else "center")
        axes.set_yticks(range(size), names)
    axes.set_title(title, color=NEUTRAL, fontsize=13)
    axes.set_xlabel("predicted", color=NEUTRAL, fontsize=12)
    axes.set_ylabel("true", color=NEUTRAL, fontsize=12)
    axes.tick_params(colors=NEUTRAL, labelsize=11)
    for spine in axes.spines.values():
        spine.set_color(NEUTRAL)
    return drawing


def _write_numbers(axes: Axes, matrix: Array, share: Array) -> None:
    for row, column in np.argwhere(matrix > 0):
        dark = share[row, column] > (0.65 if row == column else 0.13)
        axes.text(
            column,
            row,
            str(matrix[row, column]),
            ha="center",
            va="center",
            fontsize=11 if len(matrix) <= 12 else 8,
            color="white" if dark else "#24292f",
        )
