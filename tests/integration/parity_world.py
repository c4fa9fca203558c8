"""Stock `mlflow models serve` and our service, side by side on the same small release."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from test_serving_process import process, wait_for_version

from trimtab import runtime
from trimtab.registry import pyfunc_model
from trimtab.registry.package import Facts, Golden, pack

START_S = 400.0  # a busy machine; nothing is asserted about time
ALONE = {"Connection": "close"}  # a kept connection may be closed by the server just when it is used again
TARGET = "onnxruntime-cpu"
ONNX = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
# Input name → dtype and shape of a row. Every model: all inputs as one float row, times weights, softmax.
MODELS: dict[str, dict[str, tuple[str, list[int]]]] = {
    "vector": {"x": ("float32", [3])},
    "several": {"a": ("float32", [2]), "ids": ("int64", [])},
    "image": {"pixels": ("float32", [1, 2, 2])},
}


@dataclass(frozen=True)
class Servers:
    """Clients of both servers."""

    stock: httpx.Client
    ours: httpx.Client


def write_release(folder: Path, model: str) -> Path:
    """A release of one of `MODELS` on ONNX Runtime."""
    inputs = MODELS[model]
    generator = np.random.default_rng(0)
    width = sum(int(np.prod(shape)) for _, shape in inputs.values())
    weights = (generator.normal(size=(width, 3)) / 10).astype(np.float32)
    nodes, parts = [], []
    for name, (_, shape) in inputs.items():
        nodes += [
            helper.make_node("Cast", [name], [f"{name}-float"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", [f"{name}-float", f"{name}-shape"], [f"{name}-row"]),
        ]
        parts.append((f"{name}-row", np.array([-1, int(np.prod(shape))], np.int64), f"{name}-shape"))
    nodes += [
        helper.make_node("Concat", [row for row, _, _ in parts], ["row"], axis=1),
        helper.make_node("MatMul", ["row", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    constants = [numpy_helper.from_array(weights, "weights")]
    constants += [numpy_helper.from_array(shape, name) for _, shape, name in parts]
    graph = helper.make_graph(
        nodes,
        model,
        [
            helper.make_tensor_value_info(name, ONNX[dtype], ["batch", *shape])
            for name, (dtype, shape) in inputs.items()
        ],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])],
        constants,
    )
    converted = folder.with_name(f"{folder.name}-converted")
    converted.mkdir(parents=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), converted / "model.onnx"
    )
    spec = {
        "inputs": [
            {"name": name, "dtype": dtype, "shape": ["batch", *shape]} for name, (dtype, shape) in inputs.items()
        ],
        "outputs": [{"name": "probabilities", "dtype": "float32", "shape": ["batch", 3]}],
    }
    (converted / "spec.json").write_text(json.dumps(spec))
    rows = {name: np.ones((4, *shape), dtype) for name, (dtype, shape) in inputs.items()}
    answers = runtime.load(TARGET, converted, 1).predict(rows)
    facts = Facts("tiny", f"candidate-{model}", "original", TARGET, "fp32", 1, 3, None, {}, {})
    pack(converted, folder, facts, Golden(rows, answers))
    return folder


@contextmanager
def side_by_side(folder: Path, model: str) -> Iterator[Servers]:
    """Both servers on the same release, on free ports; stopped at the end."""
    release = write_release(folder / "release", model)
    arguments = ("--home", str(folder / "home"), "--release-folder", str(release), "--version", "1")
    with stock(folder, release) as theirs, process("trimtab.serving", *arguments) as (_, ours):
        wait_for_version(ours, "1")
        ours.headers.update(ALONE)
        yield Servers(theirs, ours)


@contextmanager
def stock(folder: Path, release: Path) -> Iterator[httpx.Client]:
    """`mlflow models serve` on a release as it is registered."""
    model, source, needs = folder / "model", runtime.bundle(TARGET), runtime.requirements(TARGET)
    pyfunc_model.build(model, release, source, needs, "m-1", "r-1")
    with stock_server(Path(sys.executable), str(model), f"sqlite:///{folder / 'none.db'}", folder) as client:
        yield client


@contextmanager
def stock_server(python: Path, model: str, tracking: str, folder: Path, **more: str) -> Iterator[httpx.Client]:
    """`mlflow models serve -m MODEL` by the MLflow of that interpreter, on a free port; `more` is its environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(python), "-P", "-m", "mlflow", "models", "serve", "--env-manager", "local", "-m", model]
    environment = {
        **os.environ,
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "MLFLOW_TRACKING_URI": tracking,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **more,
    }
    log = (folder / "stock.log").open("wb")
    child = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False, headers=ALONE) as client:
            _await(client, child, folder / "stock.log")
            yield client
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait(10)
        log.close()


def _await(client: httpx.Client, child: subprocess.Popen[Any], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and child.poll() is None:
        try:
            if client.get("/ping").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(log.read_text()[-4000:])
