"""What a release's plan is decided from: calls of its model, timed on its golden rows while it is loaded.

Calls of several sizes are timed in turns, so that whatever else the machine does slows all of them, and medians are
compared. It takes about a second at most; of a slow model only the sizes that the allowed wait could ever permit.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from trimtab.serving.golden import Predictor
from trimtab.serving.limits import Limits
from trimtab.serving.plan import Plan

Array = np.ndarray
Clock = Callable[[], float]
TRIES = 3
MIN_ROUNDS, MAX_ROUNDS, ROUNDS_S = 3, 15, 0.5
HANDOVERS = 25
RATE_S, RATE_CALLS = 0.1, 3  # of a worker, at least
MOST_WORKERS = 8
SAME = 1e-3  # largest difference of a row's answers, as a share of the largest answer, when it shares a call
COMPARED_ROWS = 8
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes:
        rows: golden rows, input name → (n, ...).
    """

    predictor: Predictor
    rows: Mapping[str, Array]

    def tiled(self, count: int) -> dict[str, Array]:
        """So many rows: the golden ones, again and again."""
        return {name: np.take(values, np.arange(count) % len(values), axis=0) for name, values in self.rows.items()}


def plan_for(subject: Subject, limits: Limits, clock: Clock = time.perf_counter) -> Plan:
    """Decide how a release is run.

    Args:
        clock: seconds; a test brings its own.
    """
    workers, note = _workers(subject, limits, clock)
    plan = Plan(workers, max_wait_s=limits.max_wait_s, always=limits.batching == "on")
    if limits.batching == "off" or limits.max_rows == 1:
        return replace(plan, why=f"batching: off in the recipe{note}")
    seconds = durations(subject, limits, clock)
    plan = replace(plan, took=_filled(seconds), call_s=handover_s(clock), shares=True)
    most = plan.together(itertools.repeat(1, plan.max_rows))
    if most == 1:
        measured = ", ".join(f"{rows}: {took:.6f} s" for rows, took in seconds.items())
        return replace(plan, shares=False, why=f"no gain within the allowed wait ({measured}){note}")
    if reason := _dependent(subject):
        return replace(plan, shares=False, why=f"{reason}{note}")
    shared, apart = plan.took[most], most * plan.took[1]  # without what changes hands, which both have
    return replace(plan, why=f"{most} rows take {shared:.6f} s in one call, {apart:.6f} s one by one{note}")


def durations(subject: Subject, limits: Limits, clock: Clock) -> dict[int, float]:
    """Median seconds of a call, by rows: 1, 2, 4, … up to `limits.max_rows`, or until the wait is beyond its limit."""
    calls = _sizes(subject, limits, clock)
    samples: dict[int, list[float]] = {size: [] for size in calls}
    begin = clock()
    for done in range(MAX_ROUNDS):
        if done >= MIN_ROUNDS and clock() - begin > ROUNDS_S:
            break
        for size, inputs in calls.items():
            samples[size].append(_timed(subject.predictor, inputs, clock))
    return {size: median(values) for size, values in samples.items()}


def handover_s(clock: Clock) -> float:
    """Seconds in which work goes to another thread and comes back, median of a few: what each call costs besides."""
    there, back = threading.Semaphore(0), threading.Semaphore(0)

    def answer() -> None:
        for _ in range(HANDOVERS):
            there.acquire()
            back.release()

    thread = threading.Thread(target=answer, name="handover")
    thread.start()
    samples = []
    for _ in range(HANDOVERS):
        begin = clock()
        there.release()
        back.acquire()
        samples.append(clock() - begin)
    thread.join()
    return median(samples)


def _sizes(subject: Subject, limits: Limits, clock: Clock) -> dict[int, dict[str, Array]]:
    """Inputs of the calls worth timing; each is made here first, which also warms the runtime for its size."""
    calls: dict[int, dict[str, Array]] = {}
    first = 0.0
    powers = itertools.takewhile(lambda size: size < limits.max_rows, (2**power for power in itertools.count()))
    for size in (*powers, limits.max_rows):
        inputs = subject.tiled(size)
        try:
            took = _quickest(subject.predictor, inputs, first + 2 * limits.max_wait_s, clock)
        except Exception as error:  # e.g. out of memory; it serves smaller calls all the same
            _logger.warning("a call of %d rows fails (%s): calls are kept smaller", size, type(error).__name__)
            break
        first = first or took
        if took - first > 2 * limits.max_wait_s:
            break
        calls[size] = inputs
    return calls


def _quickest(predictor: Predictor, inputs: Mapping[str, Array], enough_s: float, clock: Clock) -> float:
    """Seconds of the quickest of a few calls: one that takes no longer than `enough_s`, if there is one.

    The first call of a size may make the runtime plan for it, and on a busy machine any call may be interrupted.
    """
    took = math.inf
    for _ in range(TRIES):
        took = min(took, _timed(predictor, inputs, clock))
        if took <= enough_s:
            break
    return took


def _timed(predictor: Predictor, inputs: Mapping[str, Array], clock: Clock) -> float:
    begin = clock()
    predictor.predict(inputs)
    return clock() - begin


def _filled(seconds: Mapping[int, float]) -> tuple[float, ...]:
    """Seconds by rows with the sizes between those measured, on straight lines; index 0 is not used."""
    sizes = list(seconds)
    between = np.interp(np.arange(1, sizes[-1] + 1), sizes, list(seconds.values()))
    return (0.0, *between.tolist())


def _dependent(subject: Subject) -> str:
    """Why requests must not share a call of this model, "" if they may.

    A row's answer may depend on the rows beside it: dynamic quantization takes its scale from the whole call.
    """
    count = min(len(next(iter(subject.rows.values()))), COMPARED_ROWS)
    if count < 2:
        return "one golden row does not show whether answers depend on each other"
    rows = subject.tiled(count)
    together = subject.predictor.predict(rows)
    each = [subject.predictor.predict(_row(rows, index)) for index in range(count)]
    differences = [0.0]
    for name, values in together.items():
        alone = np.concatenate([answer[name] for answer in each]).astype(np.float64)
        if alone.shape != values.shape:
            return f"output {name!r} of {count} rows has another shape than of one by one"
        differences.append(float(np.abs(values - alone).max(initial=0)) / (float(np.abs(alone).max(initial=0)) or 1.0))
    most = float(np.max(differences))  # NaN stays NaN
    return "" if most <= SAME else f"answers depend on who shares the call, by up to {most:.2g} of the largest"


def _row(rows: Mapping[str, Array], index: int) -> dict[str, Array]:
    return {name: values[index : index + 1] for name, values in rows.items()}


def _workers(subject: Subject, limits: Limits, clock: Clock) -> tuple[int, str]:
    """How many calls at once, and a note where that is not what the recipe says."""
    if not subject.predictor.reentrant:
        wanted = limits.workers or 1
        return 1, f"; one worker, not {wanted}: this predictor takes one call at a time" if wanted > 1 else ""
    if limits.workers is not None:
        return limits.workers, ""
    return best_workers(lambda count: rate(subject, count, clock), cores() // limits.threads), ""


def best_workers(rate: Callable[[int], float], most: int) -> int:
    """The number of workers beyond which more do not bring half of what they should.

    Args:
        rate: calls a second with so many workers. most: as many as there are cores for.
    """
    most = min(most, MOST_WORKERS)
    if most < 2:
        return 1
    best, known = 1, rate(1)
    for count in _counts(most):
        faster = rate(count)
        if faster < known * (1 + (count / best - 1) / 2):
            break
        best, known = count, faster
    return best


def _counts(most: int) -> Iterable[int]:
    return sorted({count for count in (2, 4, MOST_WORKERS, most) if count <= most})


def cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def rate(subject: Subject, workers: int, clock: Clock, rows: int = 1) -> float:
    """Calls a second of so many rows each, by so many threads at once."""
    inputs = subject.tiled(rows)
    counts = [0] * workers
    begin = clock()

    def work(place: int) -> None:
        while counts[place] < RATE_CALLS or clock() - begin < RATE_S:
            subject.predictor.predict(inputs)
            counts[place] += 1

    threads = [threading.Thread(target=work, args=(place,)) for place in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / max(clock() - begin, 1e-9)
