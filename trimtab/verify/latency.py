"""Latency, interleaved: in every round the baseline and all candidates take their turn in random order.

What the machine does meanwhile (another job, a lower clock) then meets all alike, and a speed-up is a ratio of two
figures of the same round. The baseline runs twice in each round; how far it differs from itself is the noise floor,
and a gain below it is none.
"""

from __future__ import annotations

import gc
import hashlib
import os
import platform
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from trimtab.candidate import Json, Latency
from trimtab.errors import DataError
from trimtab.recipe.schema import Measure
from trimtab.verify.predictor import Array, Predictor

BASELINE = "baseline"
AGAIN = "baseline again"
WARM_UP_CALLS = 5  # before the first round of a batch size
SETTLE_CALLS = 2  # untimed, at the start of every turn: the turn before has used the caches
RUNTIMES = ("torch", "onnxruntime", "openvino", "ai-edge-litert", "executorch", "numpy")


@dataclass(frozen=True)
class Timings:
    """What was measured, and where.

    Attributes:
        by_name: predictor's name → batch size → Latency; the baseline is there as "baseline".
        noise_floor: batch size → largest |ratio - 1| of the baseline against itself over the rounds.
        itself: batch size → the median of those ratios: as far from 1 as a speed-up of nothing came out.
        host: first 12 hex digits of the SHA-256 of the host's name. cpu: model name. cores: usable by this process.
        threads: as the predictors were loaded. versions: of the runtimes that are installed.
    """

    by_name: Mapping[str, Mapping[int, Latency]]
    noise_floor: Mapping[int, float]
    itself: Mapping[int, float]
    host: str
    cpu: str
    cores: int
    threads: int
    versions: Mapping[str, str]

    def to_json(self) -> dict[str, Json]:
        """Plain dict, JSON-safe; batch sizes become strings."""
        figures = {
            name: {str(batch): asdict(latency) for batch, latency in batches.items()}
            for name, batches in self.by_name.items()
        }
        floor = {str(batch): value for batch, value in self.noise_floor.items()}
        itself = {str(batch): value for batch, value in self.itself.items()}
        return {**asdict(self), "by_name": figures, "noise_floor": floor, "itself": itself}


def measure(
    baseline: Predictor,
    predictors: Mapping[str, Predictor],
    inputs: Mapping[str, Array],
    settings: Measure,
    progress: Callable[[int, int], None] | None = None,
) -> Timings:
    """Time all predictors against the baseline.

    Args:
        baseline: what speed-ups are relative to (eager PyTorch, uncompressed).
        predictors: name → predictor; each uses the threads it was loaded with.
        inputs: name → array (n, ...); every predictor gets the same rows in a round, other rows in the next.
        settings: batch sizes, rounds, calls; threads are recorded only.
        progress: called with (turns done, turns in all).

    Raises:
        DataError: no rows, or a predictor named like the baseline.
    """
    taken = {BASELINE, AGAIN} & set(predictors)
    if taken:
        raise DataError(f"{taken.pop()!r} is the baseline's name", where="latency", fix="rename the predictor")
    if not len(next(iter(inputs.values()), ())):
        raise DataError("no rows to measure with", where="latency", fix="give a non-empty split")
    everyone = {BASELINE: baseline, AGAIN: baseline, **predictors}
    turns = len(settings.batch_sizes) * settings.rounds * len(everyone)
    done = 0

    def turn_done() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, turns)

    by_name: dict[str, dict[int, Latency]] = {name: {} for name in everyone if name != AGAIN}
    noise_floor: dict[int, float] = {}
    itself: dict[int, float] = {}
    for batch in dict.fromkeys(settings.batch_sizes):
        times = _rounds(everyone, inputs, batch, settings, turn_done)
        for name, latencies in by_name.items():
            latencies[batch] = summarize(times[BASELINE], times[name], batch, settings.threads)
        again = summarize(times[BASELINE], times[AGAIN], batch, settings.threads)
        itself[batch] = again.speedup
        noise_floor[batch] = max(abs(again.speedup_low - 1), abs(again.speedup_high - 1))
    return Timings(by_name, noise_floor, itself, host_digest(), _cpu(), _cores(), settings.threads, _versions())


def summarize(baseline: Sequence[Sequence[float]], own: Sequence[Sequence[float]], batch: int, threads: int) -> Latency:
    """One predictor's figures from its timed calls and the baseline's: seconds, [round][call]."""
    ratios = [float(np.median(b) / np.median(o)) for b, o in zip(baseline, own, strict=True)]
    calls = np.concatenate([np.asarray(part) for part in own])
    return Latency(
        batch=batch,
        threads=threads,
        p50_s=float(np.median(calls)),
        p95_s=float(np.percentile(calls, 95)),
        p99_s=float(np.percentile(calls, 99)),
        n=len(calls),
        speedup=float(np.median(ratios)),
        speedup_low=min(ratios),
        speedup_high=max(ratios),
        rounds=len(ratios),
    )


def _rounds(
    everyone: Mapping[str, Predictor],
    inputs: Mapping[str, Array],
    batch: int,
    settings: Measure,
    turn_done: Callable[[], None],
) -> dict[str, list[list[float]]]:
    """Seconds of every timed call: name → [round][call]."""
    times: dict[str, list[list[float]]] = {name: [] for name in everyone}
    shuffle = random.Random(batch).shuffle
    for predictor in everyone.values():
        _time_calls(predictor, _rows(inputs, 0, batch), WARM_UP_CALLS)
    with _no_garbage_collection():
        for number in range(settings.rounds):
            rows = _rows(inputs, number * batch, batch)
            order = list(everyone)
            shuffle(order)
            for name in order:
                _time_calls(everyone[name], rows, SETTLE_CALLS)
                times[name].append(_time_calls(everyone[name], rows, settings.calls))
                turn_done()
    return times


def _time_calls(predictor: Predictor, rows: Mapping[str, Array], calls: int) -> list[float]:
    seconds = []
    for _ in range(calls):
        start = time.perf_counter_ns()
        predictor.predict(rows)
        seconds.append((time.perf_counter_ns() - start) / 1e9)
    return seconds


def _rows(inputs: Mapping[str, Array], start: int, batch: int) -> dict[str, Array]:
    """`batch` rows from `start` on, from the beginning again where the split ends."""
    index = np.arange(start, start + batch)
    return {name: np.ascontiguousarray(values[index % len(values)]) for name, values in inputs.items()}


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def host_digest() -> str:
    """Which host a latency was measured on, as `Timings.host`."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:12]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for name in RUNTIMES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
