"""The loop of successive halving: shapes on their way through the rungs, with the control beside them.

More may be offered than the first rung trains; it takes them one after the other, by what those before them lost. Those
it does not take wait: one may still get the place of a shape that needs no more training, or time that is left over.

How a shape is trained, where decisions are kept and what is said of each step is the caller's; `halving` says who goes
on. So the loop knows no store and no clock but the one it is given, and runs in a test without a model.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trimtab.candidate import Step
from trimtab.compress.search.halving import Rung, Runner, fit_in, next_to_train, promote, rungs, who_gains
from trimtab.errors import UnsupportedError

CONTROL = "control"


@dataclass(frozen=True)
class Way:
    """A shape on its way: its runner, and the steps of the furthest candidate made of it."""

    runner: Runner
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Lap:
    """What a rung did to a shape.

    Attributes:
        steps: of the candidate that was made. accuracy: its share of right answers on the validation split, or another
            score.
        seconds: an epoch took; None where the candidate had been made before.
    """

    steps: tuple[Step, ...]
    accuracy: float
    seconds: float | None


@dataclass(frozen=True)
class Terms:
    """What a search is asked for.

    Attributes:
        epochs: of who goes all the way. drops: accuracies that may be lost, a line of shapes for each.
        accuracy: of the original on the validation split; what drops are counted from where there is no control.
        control: whether the uncut original runs along, and drops are counted from it.
        shapes: how many are trained; None: all that are offered.
        drop: (score before, score after) → how much was lost; of shares of right answers the difference.
    """

    epochs: int
    drops: Sequence[float]
    accuracy: float
    control: bool
    shapes: int | None = None
    drop: Callable[[float, float], float] = operator.sub


@dataclass(frozen=True)
class Limit:
    """A time limit.

    Attributes:
        left: seconds that are left. pace: seconds that an epoch is expected to take; asked before any was trained.
        remember: (key, what to decide) → what holds: what was decided under this key before, or what is decided now.
    """

    left: Callable[[], float]
    pace: Callable[[], float]
    remember: Callable[[str, Callable[[], Any]], Any]


Train = Callable[[Way, int], Lap | None]  # None: this shape cannot be trained


def run_course(
    ways: Sequence[Way],
    terms: Terms,
    train: Train,
    limit: Limit | None = None,
    trained: Callable[[Way, float], None] = lambda way, accuracy: None,
    rung_done: Callable[[Sequence[Way]], None] = lambda left: None,
) -> list[Way]:
    """Train rung by rung.

    Args:
        ways: the shapes that are offered, nothing trained yet.
        train: takes a way so many epochs further.
        limit: without one all epochs are trained.
        trained: called with each way that was trained, as it is after it, and its accuracy.
        rung_done: called with those that are left after each rung.

    Returns:
        All ways that were trained, each as far as it came: those that went on to the end first, then the others,
        then the control if there is one.

    Raises:
        UnsupportedError: a control is asked for and cannot be trained.
    """
    return _Course(terms, train, limit, trained, rung_done).run(list(ways)) if ways else []


class _Course:
    def __init__(
        self,
        terms: Terms,
        train: Train,
        limit: Limit | None,
        trained: Callable[[Way, float], None],
        rung_done: Callable[[Sequence[Way]], None],
    ) -> None:
        self.terms, self.train, self.limit, self.trained, self.rung_done = terms, train, limit, trained, rung_done
        self.seconds: list[float] = []
        self.waiting: dict[str, Way] = {}

    def run(self, left: list[Way]) -> list[Way]:
        terms, behind = self.terms, list[Way]()
        control = Way(Runner(CONTROL, 1.0, (), ()), ()) if terms.control else None
        asked = rungs(min(len(left), terms.shapes or len(left)), terms.epochs, len(terms.drops))
        steps = self._in_time(asked)
        for index in range(len(steps)):
            if index:
                # Fewer may have entered than were asked for; and time may have been gained since.
                asked[index:] = [replace(rung, shapes=min(rung.shapes, len(left))) for rung in asked[index:]]
                steps[index:] = self._in_time(asked[index:])
                left, behind = self._promoted(left, behind, steps, index)
            reference = terms.accuracy
            if control is not None:
                control, reference = self._control(control, steps[index])
            if index:
                further = [self._further(way, steps[index], reference) for way in left]
                left = [way for way, _ in filter(None, further)]
            else:
                left = self._entered(left, steps, reference)
            self.rung_done(left)
        if control is not None:
            return [*left, *behind, control]
        return self._over_time([*left, *behind], steps[-1].epochs)

    def _promoted(
        self, left: list[Way], behind: list[Way], steps: Sequence[Rung], index: int
    ) -> tuple[list[Way], list[Way]]:
        """Those that go on, in the order they stood in, with those that join them; and those that stay behind."""
        runners, known = [way.runner for way in left], [way.runner for way in behind]
        waiting = [way.runner for way in self.waiting.values()]
        total = sum(one.epochs for one in steps)
        chosen = promote(runners, steps[index].shapes, self.terms.drops, total, waiting, known)
        keys = {one.key for one in chosen}
        joining = [self.waiting.pop(key) for key in sorted(keys & self.waiting.keys())]
        stay = [way for way in left if way.runner.key not in keys]
        return [*(way for way in left if way.runner.key in keys), *joining], [*behind, *stay]

    def _over_time(self, ways: list[Way], last: int) -> list[Way]:
        """Spend what is left of the time limit, where it is enough for half as many epochs as the last rung had."""
        least = (last + 1) // 2
        for turn in range(len(ways) + len(self.waiting) if self.limit else 0):
            runners, total = [way.runner for way in ways], max(sum(way.runner.epochs) for way in ways)
            waiting, most = [way.runner for way in self.waiting.values()], self.terms.epochs - least
            one = who_gains(runners, self.terms.drops, total, waiting, most)
            epochs = self._spare(turn, min(last, self.terms.epochs - sum(one.epochs)), least) if one else 0
            if one is None or not epochs:
                break
            ways = self._trained_more(ways, one.key, epochs)
        return ways

    def _trained_more(self, ways: list[Way], key: str, epochs: int) -> list[Way]:
        way = self.waiting.pop(key, None) or next(way for way in ways if way.runner.key == key)
        further = self._further(way, Rung(1, epochs), self.terms.accuracy)
        ways = [other for other in ways if other.runner.key != key]
        if further is None:
            return ways
        self.rung_done([further[0]])
        return [further[0], *ways]

    def _spare(self, turn: int, most: int, least: int) -> int:
        """So many epochs there is still time for, 0 where they are fewer than `least`; decided once."""
        assert self.limit is not None
        limit = self.limit

        def decide() -> int:
            fit = min(most, math.floor(limit.left() / self._pace(limit)))
            return fit if fit >= least else 0

        return int(limit.remember(f"time left over, turn {turn + 1}", decide))

    def _pace(self, limit: Limit) -> float:
        """Seconds an epoch takes."""
        return sum(self.seconds) / len(self.seconds) if self.seconds else limit.pace()

    def _control(self, control: Way, rung: Rung) -> tuple[Way, float]:
        found = self._further(control, rung, None)
        if found is None:
            raise UnsupportedError(
                "the uncut original cannot be trained on, so there is no control to count drops from",
                where="compress.search.reference",
                fix="see the warning before this for the reason, or set it to original",
            )
        return found

    def _entered(self, offered: Sequence[Way], steps: Sequence[Rung], reference: float) -> list[Way]:
        """Those the first rung takes, trained in it, fastest first; what cannot be trained takes no place."""
        total, entered, left = sum(rung.epochs for rung in steps), list[Way](), {way.runner.key: way for way in offered}
        while left and len(entered) < steps[0].shapes:
            runners = [way.runner for way in left.values()]
            one = next_to_train([way.runner for way in entered], runners, self.terms.drops, total)
            further = self._further(left.pop(one.key), steps[0], reference)
            entered += [] if further is None else [further[0]]
        self.waiting = left
        return sorted(entered, key=lambda way: (way.runner.latency, way.runner.key))

    def _further(self, way: Way, rung: Rung, reference: float | None) -> tuple[Way, float] | None:
        """The way after so many epochs more, and its accuracy; its own drop is 0 where it is the reference itself."""
        lap = self.train(way, rung.epochs)
        if lap is None:
            return None
        if lap.seconds is not None:
            self.seconds.append(lap.seconds)
        before = way.runner
        drop = 0.0 if reference is None else self.terms.drop(reference, lap.accuracy)
        runner = replace(before, drops=(*before.drops, drop), epochs=(*before.epochs, rung.epochs))
        further = Way(runner, lap.steps)
        self.trained(further, lap.accuracy)
        return further, lap.accuracy

    def _in_time(self, left: Sequence[Rung]) -> list[Rung]:
        """The rungs that are left, with fewer epochs where the time limit asks for it; decided once."""
        limit = self.limit
        if limit is None:
            return list(left)

        def decide() -> list[list[int]]:
            shorter = fit_in(left, self._pace(limit), limit.left(), int(self.terms.control))
            return [[rung.shapes, rung.epochs] for rung in shorter]

        return [Rung(*one) for one in limit.remember(f"{len(left)} rungs left", decide)]
