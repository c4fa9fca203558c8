"""Attributions side by side: of an image the image and two maps, of anything else two bars a part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import starmap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trimtab.verify.attribution.agreement import Agreement, Example
from trimtab.verify.attribution.regions import Layout, divide
from trimtab.verify.confusion import NEUTRAL

Array = np.ndarray
BEFORE, AFTER = "#3b82f6", "#f59e0b"
BARS = 10  # parts that are drawn of a table or a sequence, those that weigh most in either model


def figure(
    found: Agreement, inputs: Mapping[int, Mapping[str, Array]], patch: int | None, labels: Sequence[str]
) -> Figure:
    """The examples of an agreement, least alike first.

    Args:
        inputs: row → name → that row of the split, without the batch axis. patch: as in the recipe.
        labels: names of classes, or of numbers; "" where there is nothing to tell apart.
    """
    batches = {row: {name: values[None] for name, values in one.items()} for row, one in inputs.items()}
    layouts = {row: divide(batch, patch) for row, batch in batches.items()}
    if all(layouts[one.row].grid is not None for one in found.examples):
        return _images(found, inputs, layouts, labels)
    return _bars(found, layouts, labels)


def _images(
    found: Agreement, inputs: Mapping[int, Mapping[str, Array]], layouts: Mapping[int, Layout], labels: Sequence[str]
) -> Figure:
    count = len(found.examples)
    drawing = Figure(figsize=(5.4, 1.95 * count), layout="constrained")
    grid = drawing.subplots(count, 3, squeeze=False)
    for line, one in zip(grid, found.examples, strict=True):
        pixels = next(iter(inputs[one.row].values()))
        _show_image(line[0], pixels)
        line[0].set_title(_name(one, labels), color=NEUTRAL, fontsize=9)
        extent = (-0.5, pixels.shape[2] - 0.5, pixels.shape[1] - 0.5, -0.5)
        for axes, values, title in zip(
            line[1:], (one.original, one.candidate), ("original", f"candidate, rank {one.correlation:.2f}"), strict=True
        ):
            _show_map(axes, np.reshape(values, layouts[one.row].grid or (1, -1)), extent, layouts[one.row].side or 1)
            axes.set_title(title, color=NEUTRAL, fontsize=9)
    return drawing


def _show_image(axes: Axes, pixels: Array) -> None:
    """Of three channels as colours, of others the mean; its own range from black to white."""
    values = np.asarray(pixels, np.float64)
    shown = values.transpose(1, 2, 0) if len(values) == 3 else values.mean(axis=0)
    low, high = shown.min(), shown.max()
    axes.imshow((shown - low) / max(high - low, 1e-12), cmap="gray", vmin=0, vmax=1)
    axes.set_axis_off()


def _show_map(axes: Axes, values: Array, extent: tuple[float, float, float, float], side: int) -> None:
    """Blue speaks for the decision, red against it; each map has its own scale, since ranks are compared."""
    largest = max(float(np.abs(values).max()), 1e-12)
    whole = np.kron(values, np.ones((side, side)))  # patches at the far edges may be cut
    whole = whole[: int(extent[2] + 0.5), : int(extent[1] + 0.5)]
    axes.imshow(whole, cmap="RdBu", vmin=-largest, vmax=largest, extent=extent)
    axes.set_axis_off()


def _bars(found: Agreement, layouts: Mapping[int, Layout], labels: Sequence[str]) -> Figure:
    count = len(found.examples)
    drawing = Figure(figsize=(5.4, 0.6 + 2.3 * count), layout="constrained")
    for axes, one in zip(drawing.subplots(count, 1, squeeze=False)[:, 0], found.examples, strict=True):
        names = list(starmap(_part, [(region.input, region.name) for region in layouts[one.row].regions]))
        first, second = np.asarray(one.original), np.asarray(one.candidate)
        weight = np.maximum(np.abs(first) / _largest(first), np.abs(second) / _largest(second))
        kept = np.argsort(-weight, kind="stable")[:BARS][::-1]
        places = np.arange(len(kept))
        axes.barh(places + 0.2, first[kept] / _largest(first), 0.38, color=BEFORE, label="original")
        axes.barh(places - 0.2, second[kept] / _largest(second), 0.38, color=AFTER, label="candidate")
        axes.set_yticks(places, [names[index] for index in kept])
        axes.set_xlim(-1.05, 1.05)
        axes.axvline(0, color=NEUTRAL, linewidth=0.8)
        axes.set_title(f"{_name(one, labels)}, rank {one.correlation:.2f}", color=NEUTRAL, fontsize=10)
        axes.tick_params(colors=NEUTRAL, labelsize=9)
        for spine in axes.spines.values():
            spine.set_visible(False)
    handles, words = drawing.axes[0].get_legend_handles_labels()
    legend = drawing.legend(handles, words, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_color(NEUTRAL)
    return drawing


def _largest(values: Array) -> float:
    return max(float(np.abs(values).max()), 1e-12)


def _part(name: str, region: str) -> str:
    return region if name == "input" else f"{name[:14]}: {region}"


def _name(one: Example, labels: Sequence[str]) -> str:
    name = str(labels[one.decided])[:14]
    return f"row {one.row}: {name}" if name else f"row {one.row}"
