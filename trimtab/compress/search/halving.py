"""Successive halving of fine-tuning epochs: many shapes are trained a little, the better half further, and so on.

Jamieson, Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", arXiv:1502.07943.
Three things are particular here. Who enters the first rung is decided one after the other, by what those before lost:
along a front the slower lose less, so most of it need not be trained to be known. A rung ends with a learning rate near
zero, so that its accuracy is that of a finished training and not of one cut short. And the best arm is not the most
accurate: it is the fastest whose accuracy, carried on to the last rung, stays within the drop that is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

FACTOR = 2


@dataclass(frozen=True)
class Rung:
    """So many shapes are each trained so many epochs more."""

    shapes: int
    epochs: int


@dataclass(frozen=True)
class Runner:
    """A shape on its way through the rungs.

    Attributes:
        key: of the shape.
        latency: relative to the uncut original's, as measured before training.
        drops: accuracy of the original minus its own on the validation split after each rung so far.
        epochs: epochs of each rung so far.
    """

    key: str
    latency: float
    drops: tuple[float, ...]
    epochs: tuple[int, ...]


def rungs(shapes: int, epochs: int, last: int = 1) -> list[Rung]:
    """The rungs for so many shapes, of which `last` are trained for `epochs` in all.

    Each rung has half the shapes and twice the epochs of the one before. Worked example: 8 shapes and 15 epochs give
    8 of 1, 4 of 2 more, 2 of 4 more, 1 of 8 more.
    """
    shapes, last = max(shapes, last), max(last, 1)
    count = 1 + math.ceil(math.log(shapes / last, FACTOR) - 1e-9)
    count = min(count, max(1, math.floor(math.log2(epochs + 1))))
    weights = [FACTOR**index for index in range(count)]
    first = [max(1, epochs * weight // sum(weights)) for weight in weights[:-1]]
    found = [Rung(max(last, shapes // FACTOR**index), used) for index, used in enumerate(first)]
    return [*found, Rung(max(last, shapes // FACTOR ** (count - 1)), epochs - sum(first))]


def expected_drop(runner: Runner, total: int) -> float:
    """The drop after `total` epochs.

    With two rungs behind it, a straight line over the logarithm of the epochs through the last two; a drop that has
    risen stays what it is. With one, it is taken to fall with the square root of the epochs: a guess, without which the
    first rung would always be won by what was cut least.
    """
    last, ends = runner.drops[-1], [sum(runner.epochs[: index + 1]) for index in range(len(runner.epochs))]
    ahead = max(total / ends[-1], 1.0)
    if len(runner.drops) < 2:
        return last / math.sqrt(ahead) if last > 0 else last
    slope = (last - runner.drops[-2]) / math.log(ends[-1] / ends[-2])
    return last + min(slope, 0.0) * math.log(ahead)


def next_to_train(trained: Sequence[Runner], left: Sequence[Runner], drops: Sequence[float], total: int) -> Runner:
    """Which of those that were not trained yet tells most: the first rung looks along the front for where drops end.

    A drop asked for ends between two neighbours on the front: the fastest that is expected to stay within it, and the
    slowest that is faster and is not. What lies in the middle of those between them halves what is unknown, as in a
    binary search; the drops take turns. Where nothing lies between, the one that is nearest to such an end in latency.

    Args:
        left: at least one.
        total: epochs of who goes all the way.
    """
    ends = [_end(trained, drop, total) for drop in drops]
    turn = len(trained) % len(ends)
    for beyond, within in (*ends[turn:], *ends[:turn]):
        between = sorted((one for one in left if beyond < one.latency < within), key=lambda one: (one.latency, one.key))
        if between:
            return between[len(between) // 2]
    near = [latency for end in ends for latency in end if math.isfinite(latency)]
    return min(left, key=lambda one: (min(abs(one.latency - latency) for latency in near), one.latency, one.key))


def _end(trained: Sequence[Runner], drop: float, total: int) -> tuple[float, float]:
    """Latencies between which a drop ends: beyond the first it is expected to be exceeded, at the second it is not."""
    fits = {one.key: expected_drop(one, total) <= drop for one in trained}
    within = min((one.latency for one in trained if fits[one.key]), default=math.inf)
    beyond = [one.latency for one in trained if not fits[one.key] and one.latency <= within]
    return max(beyond, default=-math.inf), within


def promote(runners: Sequence[Runner], keep: int, drops: Sequence[float], total: int) -> list[Runner]:
    """Those that are trained further, in the order of their worth.

    For each drop asked for, in turn: the fastest that is expected to stay within it after `total` epochs, or, where
    none is, the one that is expected to drop least; until `keep` are chosen. So with several drops each keeps its own
    line of candidates.
    """
    left, chosen = list(runners), list[Runner]()
    while left and len(chosen) < keep:
        for drop in drops:
            if not left or len(chosen) == keep:
                break
            best = min(left, key=lambda one: _worth(one, drop, total))
            chosen.append(best)
            left.remove(best)
    return chosen


def _worth(runner: Runner, drop: float, total: int) -> tuple[float, float, str]:
    """The lower, the better: the excess over the drop first, then the latency."""
    expected = expected_drop(runner, total)
    return max(0.0, expected - drop), runner.latency, runner.key


def fit_in(left: Sequence[Rung], seconds: float, time_left: float, more: int = 0) -> list[Rung]:
    """The same rungs with fewer epochs where they would take longer than there is time, each at least one.

    What rounding down leaves over goes to the last.

    Args:
        seconds: of one epoch of one shape. time_left: in seconds. more: shapes trained beside those of the rungs.
    """
    needed = sum((rung.shapes + more) * rung.epochs for rung in left) * seconds
    if needed <= time_left:
        return list(left)
    share = max(time_left, 0.0) / needed
    fewer = [Rung(rung.shapes, max(1, math.floor(rung.epochs * share))) for rung in left]
    last = fewer[-1]
    spare = time_left - sum((rung.shapes + more) * rung.epochs for rung in fewer) * seconds
    longer = last.epochs + max(0, math.floor(spare / ((last.shapes + more) * seconds)))
    return [*fewer[:-1], Rung(last.shapes, min(longer, left[-1].epochs))]


def worth_keeping(runners: Sequence[Runner], count: int) -> list[Runner]:
    """At most `count` of those that no other beats in latency and last drop; the least trained go first."""
    front = [one for one in runners if one.drops and not any(_beats(other, one) for other in runners if other.drops)]
    return sorted(front, key=lambda one: (-sum(one.epochs), one.latency, one.key))[:count]


def _beats(one: Runner, other: Runner) -> bool:
    mine, its = (one.latency, one.drops[-1]), (other.latency, other.drops[-1])
    return mine != its and all(a <= b for a, b in zip(mine, its, strict=True))
