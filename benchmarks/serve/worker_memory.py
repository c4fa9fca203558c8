"""What of a model's memory worker processes share, and what a call through shared memory costs.

    python -m benchmarks.serve.worker_memory [--processes 2] [--megabytes 64] [--calls 200]

A network of large matrices in three forms: ONNX with its weights inside, ONNX with its weights in a file beside it, and
OpenVINO. Each form is loaded by so many worker processes; of each process the kernel says what is resident (rss), its
share of it (pss: a page that n processes map counts 1/n) and what it has alone (private). The same of a network of one
matrix is taken off, so what is left is the model's; what of it is resident and not private is shared. The last line is
one JSON object; sizes are MB a process.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
from onnx import TensorProto, helper, numpy_helper

from benchmarks.machine import commit, cpu
from trimtab import runtime
from trimtab.runtime.child import Child

WIDTH = 1024
FORMS = {"onnx": "onnxruntime-cpu", "onnx-external": "onnxruntime-cpu", "openvino": "openvino-cpu"}


def write(folder: Path, form: str, layers: int) -> Path:
    """A converted folder of `layers` matrices of WIDTH x WIDTH, float32."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    weights = [(draw.normal(size=(WIDTH, WIDTH)) / WIDTH**0.5).astype(np.float32) for _ in range(layers)]
    kept = [numpy_helper.from_array(value, f"w{index}") for index, value in enumerate(weights)]
    names = ["input", *(f"h{index}" for index in range(layers - 1)), "probabilities"]
    nodes = [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(layers)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH]) for name in (names[0], names[-1])]
    graph = helper.make_graph(nodes, "matrices", ends[:1], ends[1:], kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    spec = {
        kind: [{"name": name, "dtype": "float32", "shape": ["batch", WIDTH]}]
        for kind, name in (("inputs", "input"), ("outputs", "probabilities"))
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    path = folder / "model.onnx"
    if form == "onnx-external":
        onnx.save(model, path, save_as_external_data=True, location="model.onnx.data")
    else:
        onnx.save(model, path)
    if form == "openvino":
        openvino.save_model(openvino.Core().read_model(path), folder / "model.xml", compress_to_fp16=False)
        (folder / "model.xml.gz").write_bytes(gzip.compress((folder / "model.xml").read_bytes()))
        path.unlink()
    return folder


def weigh(folder: Path, form: str, processes: int) -> dict[str, float]:
    """Medians over the processes of rss, pss and private, MB, after each has answered."""
    children = [Child(FORMS[form], folder, 1) for _ in range(processes)]
    try:
        for child in children:
            child.load()
            child.predict({"input": np.ones((4, WIDTH), np.float32)})
        found = [_memory(child.pid) for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    return {key: statistics.median(one[key] for one in found) for key in found[0]}


def overhead(folder: Path, form: str, calls: int, rows: int) -> dict[str, float]:
    """Median microseconds of a call here and in a process, in turns."""
    here, child = runtime.load(FORMS[form], folder, 1), Child(FORMS[form], folder, 1)
    inputs = {"input": np.ones((rows, WIDTH), np.float32)}
    took: dict[str, list[float]] = {"here": [], "process": []}
    try:
        child.load()
        for _ in range(calls):
            for name, predictor in (("here", here), ("process", child)):
                begin = time.perf_counter()
                predictor.predict(inputs)
                took[name].append((time.perf_counter() - begin) * 1e6)
    finally:
        child.kill()
        child.wait()
    return {name: round(statistics.median(values), 1) for name, values in took.items()}


def main() -> int:
    """All forms."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve.worker_memory")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--calls", type=int, default=200)
    given = parser.parse_args()
    layers = max(1, given.megabytes * 10**6 // (4 * WIDTH**2))
    weights = layers * 4 * WIDTH**2 / 1e6
    sizes: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="trimtab-memory-") as scratch:
        for form in FORMS:
            model, tiny = (write(Path(scratch) / f"{form}-{count}", form, count) for count in (layers, 1))
            whole, base = (weigh(folder, form, given.processes) for folder in (model, tiny))
            more = {key: whole[key] - base[key] for key in whole}
            more["shared"] = more["rss"] - more["private"]
            sizes[form] = {
                **{key: round(value, 1) for key, value in whole.items()},
                "of_the_model": {key: round(value, 1) for key, value in more.items()},
            }
            print(form, sizes[form])
        calls = {rows: overhead(Path(scratch) / "onnx-1", "onnx", given.calls, rows) for rows in (1, 32)}
    facts = {"commit": commit(), "cpu": cpu(), "processes": given.processes, "weights_mb": round(weights, 1)}
    print(json.dumps({**facts, "memory_mb": sizes, "call_us": calls}))
    return 0


def _memory(pid: int) -> dict[str, float]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    kilobytes = {key: int(value.split()[0]) for key, _, value in (line.partition(":") for line in lines)}
    private = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return {"rss": kilobytes["Rss"] / 1e3, "pss": kilobytes["Pss"] / 1e3, "private": private / 1e3}


if __name__ == "__main__":
    raise SystemExit(main())
