"""The search as an image: what was seen of each shape before training, and what training made of those that were taken.

Two panels over one axis of latency, so that a shape stands at the same place in both: above, how much the cut changed
the answers; below, what accuracy (or another metric) was lost after each rung. A line leads from a shape to its drops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import ConnectionPatch, Patch
from matplotlib.ticker import StrMethodFormatter, SymmetricalLogLocator

from trimtab.compress.search.course import Way
from trimtab.compress.search.explore import Explored
from trimtab.compress.search.record import SearchRecord, won_by_target
from trimtab.task import Task
from trimtab.verify.confusion import NEUTRAL
from trimtab.verify.pareto import COLOURS, GREEN

SMALLEST, LARGEST = 22, 120  # areas, in points², of the first rung's dot and of one with all epochs
LINE: dict[str, Any] = {"color": NEUTRAL, "lw": 0.9, "alpha": 0.7, "zorder": 2}


def figure(record: SearchRecord) -> Figure:
    """Draw a search: the upper panel alone where nothing was trained."""
    trained, task = [way for way in record.ways if way.runner.drops], Task.of(record.metric)
    drawing = Figure(figsize=(5.4, 6.6 if trained else 4.2), layout="constrained")
    grid = drawing.add_gridspec(2, 1, height_ratios=(1.2, 1)) if trained else drawing.add_gridspec(1, 1)
    upper = drawing.add_subplot(grid[0])
    lower = drawing.add_subplot(grid[1], sharex=upper) if trained else None
    lanes = sorted({_lane(one) for one in _measured(record)})
    colours = {lane: COLOURS[i % len(COLOURS)] for i, lane in enumerate(lanes)}
    _draw_seen(upper, record, colours)
    _style(upper, "change of the answers\nbefore training, nats")
    _shade_noise(upper, record.noise_floor)
    bottom = upper
    if lower is not None:
        upper.tick_params(labelbottom=False)
        _draw_drops(lower, trained, record.drops, {one.shape.key: colours[_lane(one)] for one in _measured(record)})
        _style(lower, f"{task.name} lost on validation\nafter each rung, {_unit(task)}")
        _shade_noise(lower, record.noise_floor)
        _join(drawing, upper, lower, record, trained)
        bottom = lower
    bottom.set_xlabel("latency, over the uncut original's", color=NEUTRAL, fontsize=12)
    _legend(drawing, record, colours, trained)
    return drawing


def _unit(task: Task) -> str:
    """Of a drop times 100."""
    if task.by_accuracy:
        return "points"
    return "%" if task.relative else "hundredths"


def _measured(record: SearchRecord) -> list[Explored]:
    return [one for one in record.seen if one.measured is not None]


def _lane(one: Explored) -> str:
    """The fastest lane of a measured shape, as the legend names it."""
    assert one.measured is not None
    target, won = min(won_by_target(one.measured).items(), key=lambda item: (item[1].latency, item[0]))
    return f"{won.precision} on {target}"


def _draw_seen(axes: Axes, record: SearchRecord, colours: dict[str, str]) -> None:
    """Dots of what was measured; rings, with the model's error, of what was spared."""
    least = min((one.probe.divergence for one in record.seen if one.probe.divergence > 0), default=1.0)
    axes.set_yscale("symlog", linthresh=least, linscale=0.5)
    for one in _measured(record):
        axes.scatter(one.latency, one.probe.divergence, s=46, color=colours[_lane(one)], alpha=0.85, lw=0, zorder=3)
    spared = [one for one in record.seen if one.measured is None]
    axes.errorbar(
        [one.latency for one in spared],
        [one.probe.divergence for one in spared],
        xerr=[(record.error or 0.0) * one.latency for one in spared],
        fmt="o",
        ms=6,
        mfc="none",
        mec=NEUTRAL,
        ecolor=NEUTRAL,
        elinewidth=0.8,
        alpha=0.7,
        zorder=2,
    )
    axes.set_ylim(-0.3 * least, 2 * max([least, *(one.probe.divergence for one in record.seen)]))


def _draw_drops(axes: Axes, trained: Sequence[Way], drops: Sequence[float], of_shape: dict[str, str]) -> None:
    """A dot a rung, the larger the more epochs are behind it, joined in their order.

    A first rung may lose twenty times what is allowed in the end, so from one point on the scale is logarithmic.
    """
    most = max(sum(way.runner.epochs) for way in trained)
    for way in trained:
        points = [100 * drop for drop in way.runner.drops]
        places = [way.runner.latency] * len(points)
        behind = [sum(way.runner.epochs[: rung + 1]) for rung in range(len(points))]
        areas = [SMALLEST + (LARGEST - SMALLEST) * epochs / most for epochs in behind]
        axes.plot(places, points, **LINE)
        colour = of_shape.get(way.runner.key, NEUTRAL)  # the control's is that of the axes
        axes.scatter(places, points, s=areas, color=colour, alpha=0.75, lw=0, zorder=3)
    for drop in drops:
        axes.axhline(100 * drop, color=GREEN, lw=1, ls="--", zorder=1)
    axes.set_yscale("symlog", linthresh=1.0)
    axes.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1.0, subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    every = [100 * drop for way in trained for drop in way.runner.drops]
    axes.set_ylim(1.5 * min([0.0, *every]) - 0.3, 1.5 * max([1.0, *every, *(100 * drop for drop in drops)]))


def _join(drawing: Figure, upper: Axes, lower: Axes, record: SearchRecord, trained: Sequence[Way]) -> None:
    """From each shape above to its drop after the first rung below."""
    seen = {one.shape.key: one for one in record.seen}
    for way in trained:
        one = seen.get(way.runner.key)
        if one is not None:
            start, end = (one.latency, one.probe.divergence), (way.runner.latency, 100 * way.runner.drops[0])
            drawing.add_artist(ConnectionPatch(start, end, "data", "data", axesA=upper, axesB=lower, **LINE))


def _shade_noise(axes: Axes, floor: float) -> None:
    axes.axvspan(1 / (1 + floor), 1 + floor, color=NEUTRAL, alpha=0.22, lw=0, zorder=0)


def _style(axes: Axes, name: str) -> None:
    axes.set_ylabel(name, color=NEUTRAL, fontsize=11)
    axes.tick_params(which="both", colors=NEUTRAL, labelsize=11)
    axes.grid(color=NEUTRAL, alpha=0.2)
    for spine in axes.spines.values():
        spine.set_color(NEUTRAL)


def _legend(drawing: Figure, record: SearchRecord, colours: dict[str, str], trained: Sequence[Way]) -> None:
    handles: list[Line2D | Patch] = [
        Line2D([], [], marker="o", ls="", color=colour, label=lane) for lane, colour in colours.items()
    ]
    if len(record.seen) > len(_measured(record)):
        error = f"spared, ± {100 * (record.error or 0.0):.0f} %"
        handles.append(Line2D([], [], marker="o", color=NEUTRAL, mfc="none", mec=NEUTRAL, lw=0.8, label=error))
    handles.append(Patch(color=NEUTRAL, alpha=0.22, lw=0, label=f"noise floor, {100 * record.noise_floor:.1f} %"))
    if trained:
        handles.append(Line2D([], [], color=GREEN, ls="--", label="drop allowed"))
        handles.append(Line2D([], [], marker="o", color=NEUTRAL, lw=0.9, label="after a rung; area: epochs"))
    drawing.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False, fontsize=10, labelcolor=NEUTRAL)
