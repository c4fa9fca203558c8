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
SETTLED = 0.8  # share of a drop asked for; who loses less has what is left of it for quantization
WITHIN_REACH = 1.5  # of it: who is expected to lose more is not trained in the place of one that is settled


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

    It falls with a power of the epochs, as errors do with the amount of training (Hestness et al. 2017, "Deep Learning
    Scaling is Predictable, Empirically", arXiv:1712.00409): with two rungs behind it through the last two; a drop that
    has risen, or is none, stays what it is. With one rung it is the square root: a guess, without which the first rung
    would always be won by what was cut least.
    """
    last, ends = runner.drops[-1], [sum(runner.epochs[: index + 1]) for index in range(len(runner.epochs))]
    ahead, power = max(total / ends[-1], 1.0), 0.5
    if last <= 0:
        return last
    if len(runner.drops) > 1:
        power = math.log(max(runner.drops[-2], last) / last) / math.log(ends[-1] / ends[-2])
    return last * ahead**-power


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


def promote(
    runners: Sequence[Runner],
    keep: int,
    drops: Sequence[float],
    total: int,
    waiting: Sequence[Runner] = (),
    known: Sequence[Runner] = (),
) -> list[Runner]:
    """Those that are trained further, in the order of their worth.

    For each drop asked for, in turn, until `keep` are chosen: the fastest that is expected to stay within it after
    `total` epochs, or, where none is, the one that is expected to drop least. So with several drops each keeps its own
    line of candidates. Where that one is settled, its place goes to one that may beat it, see `instead_of`.

    Args:
        waiting: not trained yet. known: trained before, and not among `runners` any more.
    """
    left, fresh, chosen = list(runners), list(waiting), list[Runner]()
    while left and len(chosen) < keep:
        for drop in drops:
            if not left or len(chosen) == keep:
                break
            best = min(left, key=lambda one: _worth(one, drop, total))
            one = instead_of(best, [*left, *known, *chosen], left, fresh, drop, total) or best
            chosen.append(one)
            (left if one in left else fresh).remove(one)
    return chosen


def instead_of(
    best: Runner, known: Sequence[Runner], left: Sequence[Runner], fresh: Sequence[Runner], drop: float, total: int
) -> Runner | None:
    """Who may beat the best, where that one is within the drop already: who lies between it and the next faster one.

    First the middle of those that were not trained yet (`fresh`), then of `left` the one that is faster and expected to
    come nearest to the drop, if it comes near.
    """
    if best.drops[-1] > SETTLED * drop:
        return None
    beyond = max((one.latency for one in known if one.latency < best.latency), default=-math.inf)
    between = [one for one in fresh if beyond < one.latency < best.latency]
    if between:
        return sorted(between, key=lambda one: (one.latency, one.key))[len(between) // 2]
    faster = [one for one in left if one.latency < best.latency and expected_drop(one, total) <= WITHIN_REACH * drop]
    return min(faster, key=lambda one: _worth(one, drop, total), default=None)


def who_gains(
    runners: Sequence[Runner], drops: Sequence[float], total: int, waiting: Sequence[Runner], most: int
) -> Runner | None:
    """Whom time that is left over is spent on: for the first drop where that can change who is chosen; None: nobody.

    Args:
        most: epochs behind it beyond which one is not trained on.
    """
    able = [one for one in runners if sum(one.epochs) <= most]
    for drop in drops if runners else ():
        best = min(runners, key=lambda one: _worth(one, drop, total))
        settled = best.drops[-1] <= SETTLED * drop
        one = instead_of(best, runners, able, waiting, drop, total) if settled else best if best in able else None
        if one is not None:
            return one
    return None


def _worth(runner: Runner, drop: float, total: int) -> tuple[float, float, str]:
    """The lower, the better: the excess over the drop first, then the latency."""
    expected = expected_drop(runner, total)
    return max(0.0, expected - drop), runner.latency, runner.key


def fit_in(left: Sequence[Rung], seconds: float, time_left: float, more: int = 0) -> list[Rung]:
    """The same rungs with fewer epochs where they would take longer than there is time, each at least one.

    Where a rung's share of the time is not an epoch for each of its shapes, it has fewer of them: the first rung looks
    for where drops end as a binary search does, and half the shapes tell most of it. It has one more than the last at
    least, or a shape that lost all would be trained to the end for want of another. What rounding down leaves over goes
    to the last.

    Worked example: 14 epochs for six shapes of 3, three of 6, two of 15, that is 66, are three of 1, three of 1, two
    of 4.

    Args:
        seconds: of one epoch of one shape. time_left: in seconds. more: shapes trained beside those of the rungs.
    """
    needed = sum((rung.shapes + more) * rung.epochs for rung in left) * seconds
    if needed <= time_left:
        return list(left)
    share = max(time_left, 0.0) / needed
    fewer = list[Rung]()
    for index, rung in enumerate(left):
        least = left[-1].shapes + (index < len(left) - 1)
        shorter = _shorter(rung, share, min(least, rung.shapes), more)
        fewer.append(Rung(min(shorter.shapes, fewer[-1].shapes) if fewer else shorter.shapes, shorter.epochs))
    last = fewer[-1]
    spare = time_left - sum((rung.shapes + more) * rung.epochs for rung in fewer) * seconds
    longer = last.epochs + max(0, math.floor(spare / ((last.shapes + more) * seconds)))
    return [*fewer[:-1], Rung(last.shapes, min(longer, left[-1].epochs))]


def _shorter(rung: Rung, share: float, least: int, more: int) -> Rung:
    if rung.epochs * share >= 1:
        return Rung(rung.shapes, math.floor(rung.epochs * share))
    return Rung(max(least, math.floor((rung.shapes + more) * rung.epochs * share) - more), 1)


def worth_keeping(runners: Sequence[Runner], count: int) -> list[Runner]:
    """At most `count` of those that no other beats in latency and last drop; the least trained go first."""
    front = [one for one in runners if one.drops and not any(_beats(other, one) for other in runners if other.drops)]
    return sorted(front, key=lambda one: (-sum(one.epochs), one.latency, one.key))[:count]


def _beats(one: Runner, other: Runner) -> bool:
    mine, its = (one.latency, one.drops[-1]), (other.latency, other.drops[-1])
    return mine != its and all(a <= b for a, b in zip(mine, its, strict=True))
