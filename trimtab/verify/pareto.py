"""The Pareto front as an image: accuracy against speed-up, size as area, the budget as a shaded region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter, StrMethodFormatter

from trimtab.compress.search.points import Point
from trimtab.recipe.schema import Budget
from trimtab.task import CLASSIFICATION, Task
from trimtab.verify.confusion import NEUTRAL

COLOURS = ("#3b82f6", "#f59e0b", "#10b981", "#a855f7", "#ef4444")  # one a target
FULL_SIZE = 420  # area, in points², of a model as large as the original
LOGARITHMIC_FROM = 8  # ratio of the largest to the smallest speed-up
FLOOR_WITHIN = 1.0  # how far below the points the budget's floor is still drawn, in heights of their range
GREEN, RED = "#10b981", "#ef4444"


def spots(points: Sequence[Any]) -> list[Point]:
    """The points of a search, given as they are or as their JSON."""
    return [point if isinstance(point, Point) else Point.from_json(point) for point in points]


def figure(
    points: Sequence[Any],
    front: Sequence[Any],
    budget: Budget,
    winner: tuple[str, str] | None = None,
    task: Task = CLASSIFICATION,
) -> Figure:
    """Draw the points.

    Args:
        points, front: points of a search, or their JSON.
        budget: its `min_speedup` and `max_drop` bound the shaded region.
        winner: (candidate, target) of the one to be named.
        task: of a regression the height is how much better than the original a candidate is: its metric may be one of
            which less is better.
    """
    every, best = spots(points), spots(front)
    drawing = Figure(figsize=(5.4, 4.8), layout="constrained")
    axes = drawing.add_subplot()
    colours = {target: COLOURS[i % len(COLOURS)] for i, target in enumerate(sorted({spot.target for spot in every}))}
    on_front = {spot.key for spot in best}
    for spot in every:
        axes.scatter(
            spot.first_speedup,
            _height(spot, task),
            s=FULL_SIZE / max(spot.size_ratio, 0.25),
            color=colours[spot.target],
            alpha=0.85 if spot.key in on_front else 0.4,
            edgecolors=NEUTRAL if spot.key in on_front else "none",
            linewidths=1.2,
            zorder=3,
        )
    region = _draw_budget(axes, every, budget, task)
    ring = _name_winner(axes, every, winner, task)
    _decorate(axes, colours, every, region, ring, task)
    return drawing


def _height(spot: Point, task: Task) -> float:
    """Percent of right answers; of an error percent better than the original (below 0: worse), else the difference."""
    if task.by_accuracy:
        return 100 * spot.accuracy
    return -spot.drop * (100 if task.relative else 1)


def _draw_budget(axes: Axes, every: Sequence[Point], budget: Budget, task: Task) -> str:
    """The original at 1x, and the region the recipe accepts, to the upper right of its corner; what the legend says.

    The heights are scaled to the points: a floor far below them would press them into a line, so it is then named
    in the legend instead of drawn.
    """
    original = 100 * (every[0].accuracy + every[0].drop) if every else 100.0
    floor = original - 100 * budget.max_drop
    if not task.by_accuracy:
        original, floor = 0.0, -budget.max_drop * (100 if task.relative else 1)
    speeds = [1.0, budget.min_speedup, *(spot.first_speedup for spot in every)]
    _scale_speeds(axes, min(speeds), max(speeds))
    heights = [original, *(_height(spot, task) for spot in every)]
    lowest, highest = min(heights), max(heights)
    plain = not (task.by_accuracy or task.relative)  # neither percents nor shares of an error
    least = 0.002 if plain else 0.2
    visible = lowest - floor <= FLOOR_WITHIN * max(highest - lowest, least)
    lowest = min(lowest, floor) if visible else lowest
    pad = 0.15 * (highest - lowest) + least / 4
    axes.set_ylim(lowest - pad, highest + pad)
    (bottom, top), right = axes.get_ylim(), axes.get_xlim()[1]
    axes.fill_between([budget.min_speedup, right], max(floor, bottom), top, color=GREEN, alpha=0.13, zorder=0, lw=0)
    axes.plot([budget.min_speedup] * 2, [max(floor, bottom), top], color=GREEN, lw=1, ls="--", zorder=1)
    if visible:
        axes.plot([budget.min_speedup, right], [floor] * 2, color=GREEN, lw=1, ls="--", zorder=1)
    axes.scatter(1.0, original, marker="*", s=170, color=NEUTRAL, zorder=4)
    return "within budget" if visible else f"within budget (floor {floor:.1f}{'' if plain else ' %'} below the axis)"


def _scale_speeds(axes: Axes, slowest: float, fastest: float) -> None:
    if fastest / slowest > LOGARITHMIC_FROM:
        axes.set_xscale("log")
        axes.set_xlim(slowest * 0.8, fastest * 1.3)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))  # ScalarFormatter writes 1.0, 2.0, …
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        pad = 0.1 * (fastest - slowest) + 0.05
        axes.set_xlim(max(0.0, slowest - pad), fastest + pad)


def _name_winner(axes: Axes, every: Sequence[Point], winner: tuple[str, str] | None, task: Task) -> bool:
    """A ring around it, and its name above the axes, where it covers no point."""
    for spot in every:
        if spot.key == winner:
            size = FULL_SIZE / max(spot.size_ratio, 0.25) + 140
            at = (spot.first_speedup, _height(spot, task))
            axes.scatter(*at, s=size, facecolors="none", edgecolors=RED, lw=2, zorder=5)
            name = f"chosen: {spot.label}\non {spot.target}, {spot.first_speedup:.1f}x, {_figure(spot, task)}"
            axes.set_title(name, color=RED, fontsize=11, fontweight="bold", parse_math=False)
            return True
    return False


def _figure(spot: Point, task: Task) -> str:
    return task.show(spot.accuracy) if task.by_accuracy else f"{task.name} {task.show(spot.accuracy)}"


def _decorate(
    axes: Axes, colours: Mapping[str, str], every: Sequence[Point], region: str, ring: bool, task: Task
) -> None:
    batch = next(iter(every[0].speedup)) if every else 1
    axes.set_xlabel(f"times as fast as eager PyTorch, batch {batch}", color=NEUTRAL, fontsize=12)
    better = f"{task.name} on validation, better than the original by{', %' if task.relative else ''}"
    axes.set_ylabel("accuracy on validation, %" if task.by_accuracy else better, color=NEUTRAL, fontsize=12)
    axes.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    axes.tick_params(which="both", colors=NEUTRAL, labelsize=11)
    axes.grid(color=NEUTRAL, alpha=0.2)
    for spine in axes.spines.values():
        spine.set_color(NEUTRAL)
    handles = [Line2D([], [], marker="o", ls="", color=colour, label=name) for name, colour in colours.items()]
    handles.append(Line2D([], [], marker="*", ls="", ms=11, color=NEUTRAL, label="eager PyTorch, 1x"))
    if ring:
        handles.append(Line2D([], [], marker="o", ls="", ms=11, mfc="none", mec=RED, mew=2, label="chosen"))
    handles.append(Line2D([], [], marker="o", ls="", ms=4, color=NEUTRAL, label="area: bytes shipped"))
    handles.append(Line2D([], [], marker="s", ls="", ms=10, color=GREEN, alpha=0.3, label=region))
    axes.figure.legend(
        handles=handles, loc="outside upper center", ncols=2, frameon=False, fontsize=10, labelcolor=NEUTRAL
    )
