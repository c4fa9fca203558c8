"""One target, all models, in a process of its own: converted, loaded, compared and timed.

    python -m benchmarks.convert.cells TARGET

The last line is one JSON object: model → a cell of the matrix.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.convert.models import MODELS, Task, build, code_of
from trimtab import runtime
from trimtab.convert import convert
from trimtab.convert.graph import deployed, spec_of
from trimtab.errors import TrimtabError
from trimtab.recipe.schema import Measure, Preprocess
from trimtab.runtime.eager import Predictor as Eager
from trimtab.verify.latency import measure
from trimtab.verify.parity import compare

THREADS, EXAMPLE_ROWS, ATOL = 1, 16, 1e-4
MEASURE = Measure(batch_sizes=[1, 32], threads=THREADS, rounds=7, calls=15)


def cell(target: str, name: str, task: Task, folder: Path) -> dict[str, Any]:
    """Convert, compare on all validation rows, time against eager.

    Raises:
        TrimtabError: it is refused, or answers otherwise.
    """
    module = deployed(task.module, Preprocess())
    example = {name: values[:EXAMPLE_ROWS] for name, values in task.train.items()}
    spec = spec_of(example, task.classes)
    start = time.perf_counter()
    converted = convert("bench", target, module, example, spec, folder, code=code_of(name))
    seconds = time.perf_counter() - start
    eager, own = Eager(module, spec, THREADS), runtime.load(target, folder, THREADS)
    parity = compare(eager, own, task.validation, ATOL, 0.95)
    timings = measure(eager, {target: own}, task.validation, MEASURE)
    wrong = [f"{edge.name}: {edge.detail}" for edge in parity.edges if edge.decides and not edge.ok]
    return {
        "ok": parity.max_abs <= ATOL and not wrong,
        "max_abs_diff": parity.max_abs,
        "disagree": parity.disagreement.value,
        "rows": parity.rows,
        "accuracy": task.accuracy,
        "seconds": round(seconds, 2),
        "size_mb": converted.size_bytes / 1e6,
        "vs_eager": {str(batch): latency.speedup for batch, latency in timings.by_name[target].items()},
        "noise_floor": {str(batch): value for batch, value in timings.noise_floor.items()},
        "why": "; ".join(wrong or converted.notes),
    }


def main(target: str) -> dict[str, Any]:
    """Every model; what raises is a cell that is not ok, with the reason."""
    torch.set_num_threads(THREADS)
    found: dict[str, Mapping[str, Any]] = {}
    for name in MODELS:
        print(f"{target}: {name}", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            try:
                found[name] = cell(target, name, build(name), Path(folder))
            except TrimtabError as error:
                found[name] = {"ok": False, "why": str(error)}
            except Exception as error:  # a crash is a finding about us: kept apart from what is refused by name
                traceback.print_exc()
                found[name] = {"ok": False, "why": f"crashed: {type(error).__name__}: {error}"}
    return found


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
