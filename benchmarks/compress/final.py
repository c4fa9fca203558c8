"""One fresh process of the final measurement: eager PyTorch, all peers and ours take turns in random order.

    python -m benchmarks.compress.final JOB

JOB is a JSON file: weights, peers (folder), ours (name → [target, folder]), threads, seed, rounds, accuracy (whether
the final rows are answered too). The last line is one JSON object: name → batch → speed-up over eager, and
name → right answers, a string of 0 and 1.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.compress.cifar import rows
from benchmarks.compress.peers import Answer, open_all
from trimtab import runtime

CALLS = {1: 40, 32: 6}
WARM_UP, SETTLE = 5, 2


def ours(target: str, folder: str, threads: int) -> Answer:
    """A build of ours, through the predictor that serves it."""
    predictor = runtime.load(target, Path(folder), threads)
    return lambda x: predictor.predict({"input": x})["probabilities"]


def speedups(engines: dict[str, Answer], inputs: np.ndarray, rounds: int, seed: int) -> dict[str, dict[int, float]]:
    """Name → batch → median over rounds of eager's time over its own in the same round."""
    shuffle = random.Random(seed).shuffle
    found: dict[str, dict[int, float]] = {name: {} for name in engines}
    for batch, calls in CALLS.items():
        times: dict[str, list[float]] = {name: [] for name in engines}
        for engine in engines.values():
            timed(engine, inputs[:batch], WARM_UP)
        for number in range(rounds):
            x = np.ascontiguousarray(inputs[number * batch : (number + 1) * batch])
            order = list(engines)
            shuffle(order)
            for name in order:
                timed(engines[name], x, SETTLE)
                times[name].append(timed(engines[name], x, calls))
        for name, own in times.items():
            found[name][batch] = statistics.median(base / one for base, one in zip(times["eager"], own, strict=True))
    return found


def timed(engine: Answer, x: np.ndarray, calls: int) -> float:
    """Seconds of so many calls."""
    start = time.perf_counter()
    for _ in range(calls):
        engine(x)
    return time.perf_counter() - start


def right(engine: Answer, inputs: np.ndarray, labels: np.ndarray) -> str:
    """A 1 for each row that is answered right."""
    answers = np.concatenate([engine(inputs[i : i + 200]).argmax(1) for i in range(0, len(inputs), 200)])
    return "".join("1" if hit else "0" for hit in answers == labels)


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Measure what the job names."""
    threads = job["threads"]
    torch.set_num_threads(threads)
    inputs, labels = rows("final")
    engines = open_all(Path(job["weights"]), Path(job["peers"]), threads)
    engines |= {name: ours(target, folder, threads) for name, (target, folder) in job["ours"].items()}
    result: dict[str, Any] = {"speedup": speedups(engines, inputs, job["rounds"], job["seed"])}
    if job["accuracy"]:
        result["right"] = {name: right(engine, inputs, labels) for name, engine in engines.items()}
    return result


if __name__ == "__main__":
    print(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
