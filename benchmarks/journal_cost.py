"""What the journal costs: requests a second of our scoring service with full inputs journalled, and with none.

    make bench-journal            (or: python -m benchmarks.journal_cost [--rounds 5] [--requests 400])

Both services run the same ONNX model, made here with random weights, one inference thread each, side by side; rounds
are interleaved in random order, and the ratio is taken round by round. The load generator shares the machine with the
services, so only the ratio means something. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import torch
from torch import nn

from benchmarks.machine import commit, cpu
from trimtab import runtime
from trimtab.convert import convert
from trimtab.convert.graph import deployed, spec_of
from trimtab.recipe.schema import Preprocess
from trimtab.registry.package import Facts, Golden, pack

CONNECTIONS = 8
SHAPE = (1, 28, 28)


def release(folder: Path, journal: bool) -> Path:
    """A release folder of a small CNN with random weights."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, 10))
    example = {"input": np.random.default_rng(0).normal(size=(4, *SHAPE)).astype(np.float32)}
    graph = folder / "graph"
    graph.mkdir(parents=True)
    target = "onnxruntime-cpu"
    convert("bench", target, deployed(module, Preprocess()), example, spec_of(example, 10), graph)
    answers = runtime.load(target, graph, 1).predict(example)
    serving = {"journal_inputs": journal}
    facts = Facts("bench", "bench", "bench", target, "fp32", 1, 10, None, {}, {}, {"serving": serving})
    pack(graph, folder / "release", facts, Golden(example, answers))
    return folder / "release"


def start(folder: Path, release_folder: Path) -> tuple[subprocess.Popen[str], str]:
    """A service process and its address."""
    command = [sys.executable, "-m", "trimtab.serving", "--name", "bench", "--home", str(folder / "home")]
    command += ["--release-folder", str(release_folder), "--version", "1", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.stderr is not None
    for line in process.stderr:
        if "http://" in line:
            url = "http://" + line.split("http://")[1].split('"')[0].split()[0]
            break
    else:
        raise SystemExit("the service did not start")
    deadline = time.monotonic() + 30
    while httpx.get(f"{url}/ready").status_code != 200:
        if time.monotonic() > deadline:
            raise SystemExit("the service did not become ready")
        time.sleep(0.1)
    return process, url


def rate(url: str, requests: int) -> float:
    """Requests a second over 8 connections; every answer must be good."""
    body = json.dumps({"instances": np.zeros((1, *SHAPE)).tolist()}).encode()
    headers = {"Content-Type": "application/json"}

    def ask(count: int) -> None:
        with httpx.Client() as client:
            for _ in range(count):
                client.post(f"{url}/invocations", content=body, headers=headers).raise_for_status()

    begin = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(ask, [requests // CONNECTIONS] * CONNECTIONS))
    return requests // CONNECTIONS * CONNECTIONS / (time.perf_counter() - begin)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=400)
    options = parser.parse_args()
    rates: dict[str, list[float]] = {"inputs": [], "none": []}
    with tempfile.TemporaryDirectory() as scratch:
        services = {}
        for name in rates:
            folder = Path(scratch) / name
            services[name] = start(folder, release(folder, journal=name == "inputs"))
        try:
            for _, url in services.values():
                rate(url, options.requests // 4)
            for number in range(options.rounds):
                order = list(services)
                random.Random(number).shuffle(order)
                for name in order:
                    rates[name].append(rate(services[name][1], options.requests))
        finally:
            for process, _ in services.values():
                process.terminate()
                process.wait(15)
    ratios = [a / b for a, b in zip(rates["inputs"], rates["none"], strict=True)]
    result = {
        "commit": commit(),
        "cpu": cpu(),
        "n": options.rounds,
        "requests": options.requests,
        "req_s_median": {name: round(statistics.median(values), 1) for name, values in rates.items()},
        "ratio_median": round(statistics.median(ratios), 3),
        "ratio_spread": [round(min(ratios), 3), round(max(ratios), 3)],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
