"""Answers of a regression against the labels: where it is right, the points are on the diagonal."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from trimtab.verify.confusion import NEUTRAL

COLOURS = ("#3b82f6", "#f59e0b", "#10b981", "#a855f7", "#ef4444")  # one an output


def figure(pairs: Any, title: str) -> Figure:
    """One picture, each output in a colour of its own; outputs are divided by their largest label where there are more.

    Args:
        pairs: float (n, k, 2), [true, answered] of each row and output.
    """
    values = np.asarray(pairs, np.float64)
    outputs = values.shape[1]
    if outputs > 1:
        values = values / np.maximum(np.abs(values[:, :, :1]).max(axis=0, keepdims=True), np.finfo(np.float64).tiny)
    drawing = Figure(figsize=(5.2, 5.4), layout="constrained")
    axes = drawing.add_subplot()
    for output in range(outputs):
        label = f"output {output}" if outputs > 1 else None
        colour = COLOURS[output % len(COLOURS)]
        true, answered = values[:, output].T
        axes.scatter(true, answered, s=14, alpha=0.5, color=colour, linewidths=0, label=label)
    ends = [float(values.min()), float(values.max())]
    axes.plot(ends, ends, color=NEUTRAL, lw=1, ls="--", zorder=0)
    axes.set_title(title, color=NEUTRAL, fontsize=13)
    unit = ", as a share of the largest" if outputs > 1 else ""
    axes.set_xlabel(f"label{unit}", color=NEUTRAL, fontsize=12)
    axes.set_ylabel(f"answer{unit}", color=NEUTRAL, fontsize=12)
    axes.tick_params(colors=NEUTRAL, labelsize=11)
    axes.grid(color=NEUTRAL, alpha=0.2)
    for spine in axes.spines.values():
        spine.set_color(NEUTRAL)
    if 1 < outputs <= len(COLOURS):
        axes.legend(frameon=False, labelcolor=NEUTRAL)
    return drawing
