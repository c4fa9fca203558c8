"""Throughput: answers a second when several callers ask at once, each as soon as it has its answer.

What a predictor can do; a service's HTTP comes on top. Interleaved like latency: in each round all take their turn in
random order. A predictor that is not reentrant is asked by one caller, and the figure says so.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trimtab.verify.predictor import Array

ROUNDS = 5
TURN_S = 0.1  # of each predictor in each round
WARM_UP_CALLS = 3


@dataclass(frozen=True)
class Throughput:
    """One predictor's rate.

    Attributes:
        callers: threads that asked at once. batch: rows a request.
        per_s: requests answered a second, median of the rounds. low, high: smallest and largest of the rounds.
    """

    callers: int
    batch: int
    per_s: float
    low: float
    high: float


def throughput(
    predictors: Mapping[str, Any], inputs: Mapping[str, Array], callers: int, batch: int, turn_s: float = TURN_S
) -> dict[str, Throughput]:
    """Name → Throughput.

    Args:
        predictors: each uses the threads it was loaded with, besides the callers.
        inputs: name → array (n, ...); each caller asks for rows of its own.
        callers: threads that ask at once, where the predictor is reentrant.
    """
    rates: dict[str, list[float]] = {name: [] for name in predictors}
    shuffle = random.Random(callers).shuffle
    for _ in range(ROUNDS):
        order = list(predictors)
        shuffle(order)
        for name in order:
            predictor = predictors[name]
            rates[name].append(_turn(predictor, inputs, _callers(predictor, callers), batch, turn_s))
    return {
        name: Throughput(
            _callers(predictors[name], callers), batch, float(np.median(found)), float(min(found)), float(max(found))
        )
        for name, found in rates.items()
    }


def _callers(predictor: Any, callers: int) -> int:
    return callers if predictor.reentrant else 1


def _turn(predictor: Any, inputs: Mapping[str, Array], callers: int, batch: int, turn_s: float) -> float:
    """Requests a second over one turn; the callers start together and finish the request they are at."""
    barrier = threading.Barrier(callers)
    spans: list[tuple[float, float, int]] = []
    failures: list[BaseException] = []

    def ask(caller: int) -> None:
        try:
            index = np.arange(caller * batch, (caller + 1) * batch)
            rows = {name: np.ascontiguousarray(values[index % len(values)]) for name, values in inputs.items()}
            for _ in range(WARM_UP_CALLS):
                predictor.predict(rows)
            barrier.wait()
            start, answered = time.perf_counter(), 0
            while time.perf_counter() - start < turn_s or not answered:
                predictor.predict(rows)
                answered += 1
            spans.append((start, time.perf_counter(), answered))
        except BaseException as error:
            failures.append(error)
            barrier.abort()

    threads = [threading.Thread(target=ask, args=(caller,)) for caller in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:  # the first is the cause; the others met the broken barrier
        raise failures[0]
    seconds = max(end for _, end, _ in spans) - min(start for start, _, _ in spans)
    return sum(answered for _, _, answered in spans) / seconds
