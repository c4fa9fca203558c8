"""The reliability diagram: what was stated against what came true, of original and candidate."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from trimtab.verify.confusion import NEUTRAL
from trimtab.verify.reliability import Trust

SERIES = (("original", "#3b82f6", "o"), ("candidate", "#f59e0b", "s"))
LARGEST_DOT, SMALLEST_DOT = 70, 12  # areas in points², the largest of a model's bin with most rows


def figure(trust: Trust) -> Figure:
    """One dot a bin, its area the rows; on the diagonal a model is exactly as often right as it says."""
    drawing = Figure(figsize=(5.2, 4.6), layout="constrained")
    axes = drawing.add_subplot()
    models = (trust.original, trust.candidate)
    low = min(min(one.stated, one.right) for model in models for one in model.bins)
    axes.plot([0, 1], [0, 1], color=NEUTRAL, linestyle=(0, (4, 4)), linewidth=1, label="exactly right")
    for (name, colour, marker), model in zip(SERIES, models, strict=True):
        stated, right = ([getattr(one, key) for one in model.bins] for key in ("stated", "right"))
        axes.plot(stated, right, color=colour, linewidth=1.2, alpha=0.6)
        most = max(one.rows for one in model.bins)
        areas = [max(LARGEST_DOT * one.rows / most, SMALLEST_DOT) for one in model.bins]
        axes.scatter(stated, right, s=areas, color=colour, marker=marker, label=name, alpha=0.85, zorder=3)
    start = max(np.floor(10 * low - 0.5) / 10, 0.0)
    axes.set_xlim(start, 1.02)
    axes.set_ylim(start, 1.02)
    axes.set_xlabel("stated probability", color=NEUTRAL, fontsize=12)
    axes.set_ylabel("share that was right", color=NEUTRAL, fontsize=12)
    axes.tick_params(colors=NEUTRAL, labelsize=11)
    for spine in axes.spines.values():
        spine.set_color(NEUTRAL)
    legend = axes.legend(frameon=False, loc="upper left", fontsize=11)
    for text in legend.get_texts():
        text.set_color(NEUTRAL)
    return drawing
