"""The limit: the model in a loop on one thread, no server at all.

    python -m benchmarks.serve.limit MODEL BATCH SECONDS

The last line is one JSON object: calls a second.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from trimtab.runtime.onnxruntime_cpu import open_session


def main(model: str, batch: int, seconds: float) -> float:
    """Calls a second, after a tenth of the time to warm up."""
    session = open_session(Path(model), 1)
    inputs = {"input": np.random.default_rng(0).normal(size=(batch, 3, 32, 32)).astype(np.float32)}
    for length in (seconds / 10, seconds):
        calls, begin = 0, time.perf_counter()
        while (passed := time.perf_counter() - begin) < length:
            session.run(None, inputs)
            calls += 1
    return calls / passed


if __name__ == "__main__":
    print(json.dumps({"calls_s": main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))}))
